// The contribution graph: a column per week, a square per day, darker where there are more files.
// It draws what it is given and asks nothing. Invariants: squares are changed in place
// while the days are the same, so that neither focus nor reader lose their place; one square at a
// time is a stop of the Tab key, and the arrow keys lead from it to the others.

const DAY = 86_400_000;
const STEP = 16;
const SQUARE = 13;
const LEFT = 32;
const TOP = 18;
// The share of the days with files that is paler than each of the three darker shades.
const PALER = [0.4, 0.7, 0.9];
const WEEKDAYS = ["", "Mon", "", "Wed", "", "Fri", ""];
const MOVES = { ArrowLeft: -7, ArrowRight: 7, ArrowUp: -1, ArrowDown: 1 };

const written = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeZone: "UTC" });
const month = new Intl.DateTimeFormat("en", { month: "short", timeZone: "UTC" });

export const number = new Intl.NumberFormat("en");
export const dayOf = (moment) => new Date(moment).toISOString().slice(0, 10);
export const inWords = (day) => written.format(Date.parse(day));
export const files = (count) =>
  count === 0 ? "No files" : `${number.format(count)} file${count === 1 ? "" : "s"}`;

// The first of 53 weeks, of which the last is the one of `last`; weeks begin on Sundays.
export function yearBefore(last) {
  const moment = Date.parse(last);
  return dayOf(moment - (new Date(moment).getUTCDay() + 52 * 7) * DAY);
}

export class Graph {
  #svg;
  #squares = [];
  #days = "";
  #chosen = 0;

  // `read` is called with what is under the pointer or has the focus, and "" where nothing is.
  constructor(svg, read) {
    this.#svg = svg;
    const onTarget = (event) => read(event.target.getAttribute("aria-label") ?? "");
    const focused = () => svg.querySelector(":focus")?.getAttribute("aria-label") ?? "";
    // Not on the picture itself, which would then be a stop of the Tab key in some browsers.
    const around = svg.parentElement;
    around.addEventListener("pointerover", onTarget);
    around.addEventListener("pointerleave", () => read(focused()));
    around.addEventListener("focusin", onTarget);
    around.addEventListener("focusout", () => read(""));
    around.addEventListener("keydown", (event) => this.#move(event));
  }

  // `counts` are by day, as 2025-11-20; both days are shown.
  draw(counts, first, last) {
    if (this.#days !== first + last) this.#build(first, last);
    const level = levels(this.#squares.map((square) => counts[square.dataset.day] ?? 0));
    for (const square of this.#squares) {
      const count = counts[square.dataset.day] ?? 0;
      square.dataset.level = level(count);
      square.setAttribute("aria-label", `${files(count)} on ${inWords(square.dataset.day)}`);
    }
    const focused = this.#svg.querySelector(":focus");
    focused?.dispatchEvent(new FocusEvent("focusin", { bubbles: true }));
  }

  #build(first, last) {
    const begin = Date.parse(first);
    const offset = new Date(begin).getUTCDay();
    const days = Math.round((Date.parse(last) - begin) / DAY) + 1;
    const weeks = Math.ceil((days + offset) / 7);
    const rows = WEEKDAYS.map((name, weekday) => rowOf(name, weekday));
    this.#squares = Array.from({ length: days }, (_, n) => {
      const [week, weekday] = [Math.floor((n + offset) / 7), (n + offset) % 7];
      return rows[weekday].appendChild(squareOf(dayOf(begin + n * DAY), week, weekday));
    });
    const sundays = Array.from({ length: weeks }, (_, n) => begin + (n * 7 - offset) * DAY);
    this.#svg.setAttribute("viewBox", `0 0 ${LEFT + weeks * STEP} ${TOP + 7 * STEP}`);
    this.#svg.setAttribute("aria-colcount", weeks);
    this.#svg.replaceChildren(...months(sundays), ...rows);
    this.#days = first + last;
    this.#choose(days - 1);
    // On a narrow screen the latest days are what is seen first.
    this.#svg.parentElement.scrollLeft = this.#svg.parentElement.scrollWidth;
  }

  #choose(place) {
    this.#squares[this.#chosen]?.setAttribute("tabindex", "-1");
    this.#chosen = place;
    this.#squares[place].setAttribute("tabindex", "0");
  }

  #move(event) {
    if (!this.#squares.includes(event.target)) return;
    const [at, last] = [this.#chosen, this.#squares.length - 1];
    let to = at + MOVES[event.key];
    if (event.key === "Home") to = event.ctrlKey ? 0 : at % 7;
    if (event.key === "End") to = event.ctrlKey ? last : last - ((last - at) % 7);
    if (Number.isNaN(to) || event.altKey || event.metaKey) return;
    event.preventDefault();
    if (to < 0 || to > last) return;
    this.#choose(to);
    this.#squares[to].focus();
  }
}

// Which shade a count has: by its place among the days with files, so that a few huge days do not
// bleach the rest.
function levels(counts) {
  const ranked = counts.filter((count) => count > 0).sort((a, b) => a - b);
  const found = new Map([[0, 0]]);
  return (count) => {
    if (!found.has(count)) {
      // Half of its equals count as less, so that days that are all alike are neither extreme.
      const below = ranked.filter((other) => other < count).length;
      const upTo = ranked.filter((other) => other <= count).length;
      const share = (below + upTo) / 2 / ranked.length;
      found.set(count, 1 + PALER.filter((paler) => share >= paler).length);
    }
    return found.get(count);
  };
}

// A month's name above its first whole week; not above the first, where the next one is near.
function months(sundays) {
  const begins = sundays.map((sunday, week) => week).filter((week) => {
    if (week === 0 || week === sundays.length - 1) return false;
    return month.format(sundays[week]) !== month.format(sundays[week - 1]);
  });
  if ((begins[0] ?? 0) > 2) begins.unshift(0);
  return begins.map((week) => label(month.format(sundays[week]), LEFT + week * STEP, TOP - 7));
}

function rowOf(name, weekday) {
  const row = element("g", { role: "row" });
  if (name) row.append(label(name, 0, TOP + weekday * STEP + SQUARE - 3));
  return row;
}

function squareOf(day, week, weekday) {
  const [x, y] = [LEFT + week * STEP + 1, TOP + weekday * STEP + 1];
  return element("rect", {
    role: "gridcell",
    tabindex: "-1",
    "aria-colindex": week + 1,
    "data-day": day,
    ...{ x, y, width: SQUARE, height: SQUARE },
  });
}

function label(text, x, y) {
  const made = element("text", { x, y, "aria-hidden": "true" });
  made.textContent = text;
  return made;
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
