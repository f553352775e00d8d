// The page: which section asks what, and how it shows the answer. What is chosen stands in the
// page's address, so that it can be kept and sent. Text from answers is set as text, never as HTML.

import { Feed } from "./feed.js";
import { Graph, dayOf, files, inWords, number, yearBefore } from "./graph.js";

const HINT = "Point at a day, or step through them with the arrow keys.";
const YEAR = /^[0-9]{4}-/;
// The years that have files seldom change.
const YEARS_SECONDS = 3_600;

const chosen = new URLSearchParams(location.search);
const part = (selector) => document.querySelector(selector);

function choose(name, value) {
  if (value) chosen.set(name, value);
  else chosen.delete(name);
  history.replaceState(null, "", `${location.pathname}${chosen.size ? "?" : ""}${chosen}`);
}

function rows(body, lines) {
  body.replaceChildren(
    ...lines.map((line) => {
      const row = document.createElement("tr");
      row.append(...line.map((text, place) => cell(text, place === 0)));
      return row;
    }),
  );
}

function cell(text, heads) {
  const made = document.createElement(heads ? "th" : "td");
  if (heads) made.scope = "row";
  made.textContent = text;
  return made;
}

function fill(section, answer) {
  for (const place of section.querySelectorAll("[data-field]")) {
    place.textContent = inForm(answer[place.dataset.field]);
  }
}

function inForm(value) {
  if (value === null) return "never";
  if (typeof value === "number") return number.format(value);
  return new Date(value).toISOString().replace("T", " ").replace(/:..\.[0-9]+Z$/, " UTC");
}

// A section with a form of one field: asks again when another value is given.
function asked(name, field, feed, addressOf, hint = "") {
  const input = part(field);
  const show = () => {
    const value = input.value.trim();
    const address = addressOf(value);
    choose(name, value);
    feed.show(address, address === null ? hint : "");
  };
  input.value = chosen.get(name) ?? "";
  input.form.addEventListener("submit", (event) => {
    event.preventDefault();
    show();
  });
  show();
}

function contributions() {
  const [section, year] = [part("#files"), part("#year")];
  const [read, table] = [section.querySelector(".read"), section.querySelector("details")];
  const graph = new Graph(section.querySelector("svg"), (text) => {
    read.textContent = text || HINT;
  });
  read.textContent = HINT;
  let latest = {};
  let span = [];

  const list = () => {
    const lines = Object.entries(latest).map(([day, count]) => [inWords(day), number.format(count)]);
    rows(table.querySelector("tbody"), lines);
  };
  const feed = new Feed(section, 30, (answer) => {
    latest = answer.daily_counts;
    graph.draw(latest, ...span);
    const days = number.format(answer.total_days);
    section.querySelector(".sum").textContent = answer.total_files
      ? `${files(answer.total_files)} on ${days} day${answer.total_days === 1 ? "" : "s"}`
      : "No files in this time. `tally load media FOLDER` brings files in.";
    if (table.open) list();
  });
  const show = () => {
    const today = dayOf(Date.now());
    span = year.value ? [`${year.value}-01-01`, `${year.value}-12-31`] : [yearBefore(today), today];
    choose("year", year.value);
    return feed.show(`api/media/daily-counts?start=${span[0]}&end=${span[1]}`);
  };
  table.addEventListener("toggle", list);
  year.addEventListener("change", show);
  if (/^[0-9]{4}$/.test(chosen.get("year"))) offer(year, [chosen.get("year")]);
  year.value = chosen.get("year") ?? "";
  show().then(() => years(year));
  // The last year ends today, which another day will be.
  setInterval(() => {
    if (!year.value && span[1] !== dayOf(Date.now())) show();
  }, 60_000);
}

// Offer every year that has files.
async function years(select) {
  const response = await fetch("api/media/daily-counts").catch(() => null);
  if (response?.ok) {
    const { daily_counts: counts } = await response.json();
    const found = Object.keys(counts).filter((day) => YEAR.test(day));
    offer(select, new Set(found.map((day) => day.slice(0, 4))));
  }
  setTimeout(() => years(select), YEARS_SECONDS * 1_000);
}

function offer(select, found) {
  const known = new Set([...select.options].map((option) => option.value));
  for (const year of found) if (!known.has(year)) select.add(new Option(year, year));
  const { value } = select;
  const [lastYear, ...others] = [...select.options];
  select.append(lastYear, ...others.sort((a, b) => b.value.localeCompare(a.value)));
  select.value = value;
}

function gallery() {
  const section = part("#gallery");
  const feed = new Feed(section, 15, (answer) => fill(section, answer));
  asked("user", "#user", feed, (user) => {
    return `api/v1/content/stats/unified${user ? `?user_id=${encodeURIComponent(user)}` : ""}`;
  });
}

function course() {
  const section = part("#course");
  const feed = new Feed(section, 15, (answer) => {
    section.querySelector("caption").textContent = `Course ${chosen.get("course")}`;
    fill(section, answer);
  });
  const addressOf = (id) => (id ? `api/courses/${encodeURIComponent(id)}/counts` : null);
  asked("course", "#course-id", feed, addressOf, "Choose a course, or name it by its id.");
  courses(section);
}

// Offer every course that there is.
async function courses(section) {
  const response = await fetch("api/courses").catch(() => null);
  // Read in either case: what is left unread keeps its connection.
  const { courses: ids } = (await response?.json().catch(() => null)) ?? {};
  if (ids === undefined) return;
  section.querySelector("datalist").replaceChildren(...ids.map((id) => new Option("", id)));
  if (ids.length === 0) {
    section.querySelector("input").placeholder = "none yet: tally load classroom PATH";
  }
}

function trending() {
  const [section, select] = [part("#trending"), part("#instance")];
  const [none, table] = [section.querySelector(".none"), section.querySelector("table")];
  const list = (lines, otherwise) => {
    rows(table.querySelector("tbody"), lines);
    [table.hidden, none.hidden] = [lines.length === 0, lines.length > 0];
    none.textContent = otherwise;
  };
  const trends = new Feed(section, 60, ({ hashtags }) => {
    const numbers = (one) => [one.posts, one.accounts].map((value) => number.format(value));
    const lines = hashtags.map((one) => [`#${one.name}`, ...numbers(one), `${one.rise.toFixed(1)}×`]);
    list(lines, "Nothing is trending just now.");
  });
  const show = () => {
    trends.show(`api/hashtags/trending?instance=${encodeURIComponent(select.value)}`);
  };
  const known = new Feed(section, 60, ({ instances }) => {
    list([], "No instance is known yet. `tally listen URL` records a server’s events.");
    if (instances.length === 0) return;
    known.stop();
    select.replaceChildren(...instances.map((one) => new Option(hostOf(one.base_url), one.id)));
    const wanted = instances.find((one) => String(one.id) === chosen.get("instance"));
    select.value = (wanted ?? instances[0]).id;
    select.disabled = false;
    show();
  });
  select.addEventListener("change", () => {
    choose("instance", select.value);
    show();
  });
  known.show("api/instances");
}

const hostOf = (address) => address.replace(/^https?:[/][/]/, "");

contributions();
gallery();
course();
trending();
