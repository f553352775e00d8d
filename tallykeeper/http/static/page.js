// The page of any project: what is wrong, which tallies there are with a chart of each that has a
// time, and the rows of the one that is chosen. Text from answers is set as text, never as HTML. The
// chosen tally stands in the page's address.

const LIMIT = 50;
const DAY = 86_400_000;
// What a chart shows of a tally, by the unit of its time: grouped by, over so many days.
const SPANS = {
  hour: ["day", 30],
  day: ["day", 90],
  week: ["week", 2 * 366],
  month: ["month", 5 * 366],
  year: ["year", null],
};
const part = (selector) => document.querySelector(selector);

async function ask(address) {
  const response = await fetch(address, { cache: "no-store" });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail ?? answer.title);
  return answer;
}

function say(error) {
  part("#problem").textContent = error ? `The service could not answer: ${error.message}` : "";
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const written = (value) => {
  if (value === null) return "null";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};
const day = (moment) => new Date(moment).toISOString().slice(0, 10);
const minute = (moment) => `${moment.slice(0, 10)} ${moment.slice(11, 16)} UTC`;

async function show(tally, cursor) {
  const query = new URLSearchParams({ limit: LIMIT, ...(cursor ? { cursor } : {}) });
  // The latest first, where that is the order of the key.
  const time = tally.time_key?.column;
  if (time && tally.key[0].name === time) query.set("order", `-${time}`);
  const answer = await ask(`${tally.address.replace(/^[/]/, "")}?${query}`);
  const columns = [...tally.key, ...tally.measures].map((column) => column.name);
  const [head, body] = [part("#rows thead tr"), part("#rows tbody")];
  part("#rows-title").textContent = tally.name;
  part("#exact").textContent = `exact as of ${minute(answer.as_of)}`;
  head.replaceChildren(...columns.map((name) => element("th", name, { scope: "col" })));
  const lines = answer.rows.map((row) => {
    const line = document.createElement("tr");
    line.append(...columns.map((name) => element("td", written(row[name]))));
    return line;
  });
  if (cursor) body.append(...lines);
  else body.replaceChildren(...lines);
  part("#rows").hidden = false;
  part("#more").hidden = answer.next_cursor === null;
  part("#more").onclick = () => attempt(() => show(tally, answer.next_cursor));
}

async function attempt(work) {
  try {
    await work();
    say(null);
  } catch (error) {
    say(error);
  }
}

// The groups of a tally by its time, of the last while, or by years where that has none.
async function series(tally) {
  const { column, unit } = tally.time_key;
  const address = `api/tallies/${encodeURIComponent(tally.name)}/groups`;
  const [step, days] = SPANS[unit];
  for (const [by, back] of [[step, days], ["year", null]]) {
    const query = new URLSearchParams({ group_by: `${column}:${by}`, limit: 2_000 });
    if (back) query.set("start", day(Date.now() - back * DAY));
    const answer = await ask(`${address}?${query}`);
    if (answer.groups.length || by === "year") return { by, back, ...answer };
  }
}

function chart(tally, found, measure) {
  const { column } = tally.time_key;
  const points = found.groups
    .filter((group) => group[column] !== null && group[measure] !== null)
    .map((group) => [new Date(group[column]).getTime(), Number(group[measure])])
    .filter(([at, value]) => Number.isFinite(at) && Number.isFinite(value))
    .sort((one, other) => one[0] - other[0]);
  const width = { day: 1, week: 7, month: 30, year: 365 }[found.by] * DAY;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "chart");
  svg.setAttribute("role", "img");
  if (points.length === 0) {
    svg.setAttribute("aria-label", `${measure}: nothing`);
    return [svg, "nothing yet"];
  }
  const first = found.back ? Date.now() - found.back * DAY : points[0][0];
  const last = Math.max(points.at(-1)[0], found.back ? Date.now() : 0) + width;
  const most = Math.max(0, ...points.map(([, value]) => value));
  const least = Math.min(0, ...points.map(([, value]) => value));
  const tall = most - least || 1;
  svg.setAttribute("viewBox", "0 0 1000 100");
  svg.setAttribute("preserveAspectRatio", "none");
  for (const [at, value] of points) {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const top = ((most - Math.max(value, 0)) / tall) * 100;
    const sizes = {
      x: ((at - first) / (last - first)) * 1000,
      y: top,
      width: Math.max((width / (last - first)) * 850, 1),
      height: Math.max((Math.abs(value) / tall) * 100, value ? 1 : 0),
    };
    for (const [name, size] of Object.entries(sizes)) bar.setAttribute(name, size.toFixed(2));
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `${day(at)}: ${value.toLocaleString("en")}`;
    bar.append(title);
    svg.append(bar);
  }
  const [at, value] = points.at(-1);
  const says = `by ${found.by}, ${day(points[0][0])} to ${day(at)}; last ${value.toLocaleString("en")}`;
  svg.setAttribute("aria-label", `${measure} ${says}, at most ${most.toLocaleString("en")}`);
  return [svg, says];
}

async function draw(tally, place) {
  const found = await series(tally);
  const measured = [...tally.measures.map((m) => m.name), "rows"];
  const names = measured.filter((name) => found.groups.some((group) => typeof group[name] === "number"));
  const [below, says] = [element("div", "", { class: "below" }), element("span", "")];
  const select = element("select", "", { "aria-label": `Measure of ${tally.name}` });
  select.append(...names.map((name) => element("option", name)));
  const again = () => {
    const [svg, text] = chart(tally, found, names.length ? select.value : "rows");
    says.textContent = text;
    place.replaceChildren(svg, below);
  };
  select.addEventListener("change", again);
  if (names.length > 1) below.append(select);
  else below.append(element("span", names[0] ?? ""));
  below.append(says);
  again();
}

function card(tally, choose) {
  const line = document.createElement("li");
  const [head, button] = [document.createElement("h3"), element("button", tally.name)];
  button.addEventListener("click", () => choose(tally));
  head.append(button);
  line.append(head, element("p", tally.description, { class: "says" }));
  const place = document.createElement("div");
  line.append(place);
  if (tally.ui_url) {
    line.append(element("a", "in Dagster", { class: "link", href: tally.ui_url, "aria-label": `${tally.name} in Dagster` }));
  }
  return [line, place];
}

async function incidents() {
  const { incidents: found, open } = await ask("api/incidents?limit=10");
  part("#open").textContent = open ? `${open} open` : "none is open";
  const shown = found.filter((each) => each.resolved_at === null || !open).slice(0, open ? 10 : 3);
  part("#incidents").replaceChildren(
    ...shown.map((each) => {
      const over = each.resolved_at !== null;
      const line = element("li", "", over ? { class: "over" } : {});
      const times = each.times > 1 ? `, found ${each.times} times` : "";
      const end = over ? `resolved ${minute(each.resolved_at)} by ${each.resolved_by}` : "open";
      line.append(
        element("strong", each.subject),
        element("p", each.what),
        ...(each.cause ? [element("p", each.cause)] : []),
        element("p", `found ${minute(each.found_at)}${times}; ${end}`, { class: "says" }),
      );
      return line;
    }),
  );
}

async function tallies() {
  const { tallies: known, ui_url } = await ask("api/tallies");
  if (ui_url) {
    part("#ui").href = ui_url;
    part("#ui").hidden = false;
  }
  const choose = (tally) => {
    history.replaceState(null, "", `?${new URLSearchParams({ tally: tally.name })}`);
    return attempt(async () => {
      await show(tally);
      part("#rows-title").focus();
      part("#rows").scrollIntoView();
    });
  };
  const cards = known.map((tally) => [tally, ...card(tally, choose)]);
  part("#tallies").replaceChildren(...cards.map(([, line]) => line));
  if (known.length === 0) part("#tallies").replaceChildren(element("li", "none is installed"));
  const wanted = new URLSearchParams(location.search).get("tally");
  const found = known.find((tally) => tally.name === wanted);
  if (found) await attempt(() => show(found));
  // One after another: the service has other questions to answer.
  for (const [tally, , place] of cards.filter(([each]) => each.time_key)) {
    try {
      await draw(tally, place);
    } catch (error) {
      place.replaceChildren(element("p", `no chart: ${error.message}`, { class: "says" }));
    }
  }
}

attempt(incidents).then(() => attempt(tallies));
