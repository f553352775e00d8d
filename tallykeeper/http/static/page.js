// The page of any project: which tallies there are, and the rows of the one that is chosen. Text
// from answers is set as text, never as HTML. The chosen tally stands in the page's address.

const LIMIT = 50;
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

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

const written = (value) => {
  if (value === null) return "null";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};

async function show(tally, cursor) {
  const query = new URLSearchParams({ limit: LIMIT, ...(cursor ? { cursor } : {}) });
  const answer = await ask(`${tally.address.replace(/^[/]/, "")}?${query}`);
  const columns = [...tally.key, ...tally.measures].map((column) => column.name);
  const [head, body] = [part("#rows thead tr"), part("#rows tbody")];
  part("#rows-title").textContent = tally.name;
  part("#exact").textContent = `exact as of ${answer.as_of}`;
  head.replaceChildren(...columns.map((name) => element("th", name)));
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

attempt(async () => {
  const { tallies } = await ask("api/tallies");
  const choose = (tally) => {
    history.replaceState(null, "", `?${new URLSearchParams({ tally: tally.name })}`);
    return attempt(() => show(tally));
  };
  part("#tallies").replaceChildren(
    ...tallies.map((tally) => {
      const line = document.createElement("li");
      const button = element("button", tally.name);
      button.addEventListener("click", () => choose(tally));
      const says = element("span", tally.description);
      says.className = "says";
      line.append(button, says);
      return line;
    }),
  );
  if (tallies.length === 0) part("#tallies").replaceChildren(element("li", "none is installed"));
  const wanted = new URLSearchParams(location.search).get("tally");
  const found = tallies.find((tally) => tally.name === wanted);
  if (found) await choose(found);
});
