// Keeps one section of the page up to date: asks an address, and again every so many seconds while
// the page can be seen. What it shows of the answer is its caller's; what stands in place of an
// answer is shown here. Invariants: a section that fails says so in a sentence, and no
// other section takes notice; an answer that came late never replaces a later question's.

const PATIENCE = 20_000;
// Figures that were right a while ago are kept for these; else there is nothing to show.
const PASSING = 500;

export class Feed {
  #section;
  #milliseconds;
  #draw;
  #address = null;
  #tag = null;
  #asked = 0;
  #timer = 0;
  #running = null;

  // `draw` is given an answer, and shows it in the section's figures.
  constructor(section, seconds, draw) {
    this.#section = section;
    this.#milliseconds = seconds * 1_000;
    this.#draw = draw;
    document.addEventListener("visibilitychange", () => this.#plan());
  }

  // Show the answer at `address` from now on; where it is null, the `hint` instead.
  show(address, hint = "") {
    this.#running?.abort();
    clearTimeout(this.#timer);
    if (address !== this.#address || address === null) {
      this.#tag = null;
      this.#figures.hidden = true;
      this.#part(".asof").textContent = hint;
    }
    this.#address = address;
    this.#say("");
    return address === null ? Promise.resolve() : this.#ask();
  }

  // Ask no more; what is shown stays.
  stop() {
    this.#running?.abort();
    clearTimeout(this.#timer);
    this.#address = null;
  }

  #plan() {
    clearTimeout(this.#timer);
    if (this.#address === null || document.hidden) return;
    const due = this.#asked + this.#milliseconds - Date.now();
    this.#timer = setTimeout(() => this.#ask(), Math.max(due, 0));
  }

  async #ask() {
    this.#asked = Date.now();
    this.#running?.abort();
    const running = (this.#running = new AbortController());
    const late = setTimeout(() => running.abort(new Error("late")), PATIENCE);
    try {
      const headers = this.#tag ? { "If-None-Match": this.#tag } : {};
      const options = { cache: "no-store", headers, signal: running.signal };
      const response = await fetch(this.#address, options);
      const answer = response.status === 304 ? null : await response.json();
      if (running === this.#running) this.#take(response, answer);
    } catch (error) {
      if (running !== this.#running || error.name === "AbortError") return;
      this.#say("The service does not answer just now; it is asked again by and by.");
    } finally {
      clearTimeout(late);
      if (running === this.#running) this.#plan();
    }
  }

  #take(response, answer) {
    if (response.ok) {
      this.#tag = response.headers.get("ETag");
      this.#figures.hidden = false;
      this.#draw(answer);
      if (this.#address === null) return;
      this.#exact(answer.as_of);
    } else if (response.status === 304) {
      this.#exact(response.headers.get("Date"));
    } else {
      this.#fail(response.status, answer);
      return;
    }
    this.#say("");
  }

  #fail(status, problem) {
    const missing = status === 404 || (problem.type ?? "").endsWith(":not-installed");
    if (missing || status < PASSING) {
      this.#figures.hidden = true;
      this.#part(".asof").textContent = "";
      this.#tag = null;
    }
    this.#say(
      status === 404 ? "This service does not answer for this system." : problem.detail,
    );
  }

  // When the figures were last known to be right: of an answer that is still the same, just now.
  #exact(moment) {
    if (moment === null) return;
    const time = document.createElement("time");
    time.dateTime = new Date(moment).toISOString();
    time.textContent = new Date(moment).toLocaleTimeString("en-GB", { timeZoneName: "short" });
    this.#part(".asof").replaceChildren("exact as of ", time);
  }

  // Said aloud by screen readers, so only where it changes.
  #say(sentence) {
    const said = this.#part(".said");
    if (said.textContent !== sentence) said.textContent = sentence;
  }

  #part(name) {
    return this.#section.querySelector(name);
  }

  get #figures() {
    return this.#part(".figures");
  }
}
