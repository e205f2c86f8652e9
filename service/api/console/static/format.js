// Numbers, sizes and times as the reader's browser writes them.

const NUMBER = new Intl.NumberFormat();
const FIXED_2 = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const SHARE = new Intl.NumberFormat(undefined, { style: "percent" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const MONTH = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "long" });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hour12: false });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const PLURAL = new Intl.PluralRules("en");
const LIST = new Intl.ListFormat(undefined, { type: "conjunction" });

export const count = (value) => NUMBER.format(value);
// One that is corrected for a dense region may be a little below zero; nothing is nearer than that.
export const distance = (value) => FIXED_2.format(Math.max(0, value));
export const share = (value) => SHARE.format(value);
export const day = (text) => DAY.format(new Date(text));
export const month = (text) => MONTH.format(new Date(text));
export const clock = (seconds) => CLOCK.format(new Date(1000 * seconds));
export const time = (text) => TIME.format(new Date(text));
export const moment = (text) => MOMENT.format(new Date(text));
export const list = (words) => LIST.format(words);

// "1 face", "12 faces".
export const plural = (value, one, other) =>
  `${count(value)} ${PLURAL.select(value) === "one" ? one : other}`;

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

export function bytes(value) {
  const step = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, value)) / 3));
  return new Intl.NumberFormat(undefined, {
    style: "unit", unit: UNITS[step], unitDisplay: "short", maximumFractionDigits: step ? 1 : 0,
  }).format(value / 1000 ** step);
}
