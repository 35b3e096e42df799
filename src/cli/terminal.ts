import { styleText } from 'node:util';

/** Whether stdout is a terminal that shows colours, and its user wants them (NO_COLOR). */
function isColored(): boolean {
  return process.stdout.isTTY && process.stdout.hasColors();
}

/** Colours a text, where stdout shows that. */
export function paint(color: 'yellow' | 'green' | 'red', text: string): string {
  return isColored() ? styleText(color, text) : text;
}

/** The time of day, `12:00:05`. */
export function clockTime(date = new Date()): string {
  return date.toTimeString().slice(0, 'hh:mm:ss'.length);
}

/** Takes a terminal's screen for what is printed next. */
export function clearScreen(): void {
  process.stdout.write('\u001B[H\u001B[2J');
}
