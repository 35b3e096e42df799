/** How the demo runs. */
export interface DemoOptions {
  readonly keep: boolean;
}

export async function runDemo(_options: DemoOptions): Promise<number> {
  return 0;
}
