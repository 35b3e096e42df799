// Preloaded into a process whose host's clock is to be wrong by SKEW_DAYS days.
const skewMs = Number(process.env.SKEW_DAYS) * 86_400_000;
const TrueDate = Date;

globalThis.Date = class extends TrueDate {
  constructor(...parameters) {
    if (parameters.length === 0) super(TrueDate.now() + skewMs);
    else super(...parameters);
  }

  static now() {
    return TrueDate.now() + skewMs;
  }
};
