// Every address of openapi.json with its parameters, and a form that asks the ones that only read.
// Text is set as text, never as HTML.

const part = (selector) => document.querySelector(selector);

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function typed(schema = {}) {
  const one = schema.anyOf?.find((each) => each.type !== "null") ?? schema;
  const name = one.enum ? one.enum.join(", ") : one.type === "array" ? `${typed(one.items)}, …` : (one.format ?? one.type);
  return schema.default === undefined ? (name ?? "") : `${name}; ${JSON.stringify(schema.default)}`;
}

function form(path, parameters) {
  const made = document.createElement("form");
  const inputs = parameters.map((parameter) => {
    const label = element("label", `${parameter.name} (${typed(parameter.schema)})`);
    const input = element("input", "", { name: parameter.name });
    input.required = parameter.required ?? false;
    if (parameter.description) label.append(element("small", parameter.description));
    label.append(input);
    return [parameter, input, label];
  });
  const answer = element("pre", "", { tabindex: "0", "aria-label": `Answer of ${path}` });
  answer.hidden = true;
  made.append(...inputs.map(([, , label]) => label), element("button", "Ask"), answer);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    let address = path.replace(/^[/]/, "");
    const query = new URLSearchParams();
    for (const [{ name, in: where }, { value }] of inputs) {
      if (where === "path") address = address.replace(`{${name}}`, encodeURIComponent(value));
      else if (value && name === "keys") new URLSearchParams(value).forEach((v, k) => query.append(k, v));
      else if (value) query.append(name, value);
    }
    answer.hidden = false;
    try {
      const response = await fetch(`${address}?${query}`);
      const text = await response.text();
      const json = (response.headers.get("content-type") ?? "").includes("json");
      answer.textContent = `${response.status}\n${json ? JSON.stringify(JSON.parse(text), null, 2) : text}`;
    } catch (error) {
      answer.textContent = String(error);
    }
  });
  return made;
}

function operation(path, method, said) {
  const made = document.createElement("details");
  made.append(element("summary", `${method.toUpperCase()} ${path}`));
  made.append(element("p", said.description ?? said.summary ?? ""));
  const parameters = said.parameters ?? [];
  if (method === "get") {
    made.append(form(path, parameters));
    return made;
  }
  const list = document.createElement("ul");
  list.append(...parameters.map((p) => element("li", `${p.name} (${typed(p.schema)}) ${p.description ?? ""}`)));
  made.append(list);
  return made;
}

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(String(response.status));
  const { paths } = await response.json();
  const byTag = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, said] of Object.entries(methods)) {
      const tag = said.tags?.[0] ?? "";
      byTag.set(tag, [...(byTag.get(tag) ?? []), operation(path, method, said)]);
    }
  }
  for (const [tag, operations] of byTag) {
    part("main").append(element("h2", tag), ...operations);
  }
} catch (error) {
  part("#problem").textContent = `The service could not answer: ${error.message}`;
}
