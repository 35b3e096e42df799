/** What is known of this process as a listener; counts begin at its start. */
export interface ListenerState {
  /** Whether notifications were seen to arrive on the present session. */
  readonly listening: boolean;
  /** When one arrived last. */
  readonly provenAt: Date | undefined;
  /** How often listening was taken up again after a loss. */
  readonly reconnects: number;
  /** Whether it has been told to stop, and claims nothing more. */
  readonly stopping: boolean;
  /** What keeps sessions of the database from being opened, and since when. */
  readonly fault?: { readonly kind: string; readonly since: Date } | undefined;
  /** Why it claims nothing, where that is the fence. */
  readonly waits?: string | undefined;
}
