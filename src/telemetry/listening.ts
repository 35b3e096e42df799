/** What is known of this process as a listener; the figures begin with it. */
export interface ListenerState {
  /** Whether notifications were seen to arrive on the present session. */
  readonly listening: boolean;
  /** When one arrived last. */
  readonly provenAt: Date | undefined;
  /** How often listening was taken up again after a loss. */
  readonly reconnects: number;
  /** It claims nothing more. */
  readonly stopping: boolean;
}
