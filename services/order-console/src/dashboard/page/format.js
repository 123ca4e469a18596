// Turns values of the API into text. Times are UTC, as in the logs.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const HUNDREDTHS = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const PRICE = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 6 });

/** Shown where there is no value. */
export const NONE = "—";

/** Returns a whole number with its thousands separated. */
export function count(number) {
    return number === null || number === undefined ? NONE : WHOLE.format(number);
}

/** Returns a number of things: "1 dead letter", "1,234 dead letters". */
export function countOf(number, thing, things = `${thing}s`) {
    return `${count(number)} ${number === 1 ? thing : things}`;
}

/** Returns a number per second, without its unit. */
export function rate(number) {
    return number < 9.95 && number > 0 ? TENTHS.format(number) : WHOLE.format(number);
}

/** Returns an average, to the hundredth. */
export function average(number) {
    return number === null || number === undefined ? NONE : HUNDREDTHS.format(number);
}

/** Returns a price with all the digits that it has. */
export function price(number) {
    return number === null || number === undefined ? NONE : PRICE.format(number);
}

/** Returns a decimal number digit by digit as it came, its thousands separated: sums are exact beyond what a double is. */
export function decimal(text) {
    const [, sign, whole, fraction] = /^(-?)(\d+)(\.\d+)?$/.exec(text) ?? [];
    if (whole === undefined) {
        return text;
    }
    return sign + whole.replace(/\B(?=(\d{3})+$)/g, ",") + (fraction ?? "");
}

/** Returns a duration in at most two units: "0.4 s", "3 min 20 s", "2 h 13 min", "4 d 6 h". */
export function seconds(number) {
    if (number === null || number === undefined) {
        return NONE;
    }
    if (number < 9.95) {
        return number === 0 ? "0 s" : `${TENTHS.format(number)} s`;
    }
    const whole = Math.round(number);
    const units = [
        ["d", 86_400],
        ["h", 3_600],
        ["min", 60],
        ["s", 1],
    ];
    const first = units.findIndex(([, size]) => whole >= size);
    const [name, size] = units[first];
    const next = units[first + 1];
    const rest = next === undefined ? 0 : Math.floor((whole % size) / next[1]);
    const head = `${WHOLE.format(Math.floor(whole / size))} ${name}`;
    return rest === 0 ? head : `${head} ${rest} ${next[0]}`;
}

/** Returns the time of day of an RFC 3339 time in UTC, with its date where that is another day than `now`. */
export function time(text, now = Date.now()) {
    const iso = isoOf(text);
    const day = iso.slice(0, 10);
    const clock = iso.slice(11, 19);
    return day === new Date(now).toISOString().slice(0, 10) ? clock : `${day} ${clock}`;
}

/** Returns the time of day to the millisecond. */
export function timeExact(text) {
    return isoOf(text).slice(11, 23);
}

/** Returns date and time of day to the millisecond. */
export function dateTime(text) {
    return isoOf(text).slice(0, 23).replace("T", " ");
}

function isoOf(text) {
    const ms = typeof text === "number" ? text : Date.parse(text);
    return Number.isNaN(ms) ? String(text) : new Date(ms).toISOString();
}

/** Returns the seconds from an RFC 3339 time to `now`, never less than none. */
export function age(text, now) {
    return Math.max(0, (now - Date.parse(text)) / 1000);
}

/** Returns a member's name for people: what its operator called it, or its client id and what tells it apart. */
export function memberName(member) {
    return member.instance_id ?? shortName(member.member_id);
}

/** Returns a name that ends in a UUID with only the last digits of it. */
export function shortName(name) {
    return name.replace(/-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{6}([0-9a-f]{6})$/, " …$2");
}
