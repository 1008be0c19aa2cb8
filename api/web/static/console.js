// Shortcuts of the console, the print button of letters, and drafts that survive another form. Everything works without
// this script, but for the last.
"use strict";

(function () {
  const STORE = "console-shortcuts";
  const byId = (id) => document.getElementById(id);

  function isOn() {
    try { return localStorage.getItem(STORE) !== "off"; } catch { return true; }
  }

  function setOn(on) {
    try { localStorage.setItem(STORE, on ? "on" : "off"); } catch { /* private mode: on for this page only */ }
  }

  const printing = byId("print");
  if (printing) {
    printing.hidden = false;
    printing.addEventListener("click", () => window.print());
  }

  // The code of an enrolment link is in the fragment, which browsers do not send. It goes into the form, and out of the
  // address bar.
  const opening = document.querySelector("form[data-open]");
  if (opening && /^#[A-Za-z0-9_-]{43}$/.test(location.hash)) {
    const code = location.hash.slice(1);
    history.replaceState(null, "", location.pathname + location.search);
    opening.querySelector("#code").value = code;
    opening.querySelector(".code-field").hidden = true;
    opening.querySelector(".from-link").hidden = false;
  }

  // Looking into a file shows the page anew: what was being written in its other forms goes there and comes back.
  function carry(event) {
    const form = event.target;
    if (!form.matches("[data-carries]")) return;
    const taken = new Set(["seen", "confirmed"]);
    for (const old of form.querySelectorAll(".carried")) old.remove();
    for (const name of new FormData(form).keys()) taken.add(name);
    for (const other of document.querySelectorAll("main form:not([data-carries])")) {
      for (const [name, value] of new FormData(other)) {
        if (taken.has(name) || value === "") continue;
        taken.add(name);
        const field = document.createElement("input");
        Object.assign(field, { type: "hidden", name, value, className: "carried" });
        form.append(field);
      }
    }
  }
  document.addEventListener("submit", carry);

  const dialog = byId("shortcuts");
  if (!dialog) return;

  const hint = byId("shortcuts-hint"), box = byId("shortcuts-on"), off = byId("shortcuts-off-note");
  const rows = Array.from(document.querySelectorAll("#queue tbody tr"));
  let place = -1;

  function tell() {
    box.checked = isOn();
    off.hidden = isOn();
  }

  hint.hidden = false;
  tell();
  box.addEventListener("change", () => { setOn(box.checked); tell(); });
  byId("shortcuts-open").addEventListener("click", () => dialog.showModal());

  function mark(next) {
    if (!rows.length) return;
    if (place >= 0) rows[place].classList.remove("marked");
    place = Math.max(0, Math.min(rows.length - 1, next));
    rows[place].classList.add("marked");
    const link = rows[place].querySelector("a");
    link.focus({ preventScroll: true });
    rows[place].scrollIntoView({ block: "nearest" });
  }

  function openFilters() {
    const summary = byId("filters");
    if (!summary) return false;
    summary.parentElement.open = true;
    byId("state").focus();
    return true;
  }

  const keys = {
    j: () => { mark(place + 1); return rows.length > 0; },
    k: () => { mark(place - 1); return rows.length > 0; },
    o: () => {
      if (place < 0) return false;
      rows[place].querySelector("a").click();
      return true;
    },
    Enter: (event) => (event.target === document.body ? keys.o() : false),
    n: () => {
      const form = byId("next");
      if (!form) return false;
      form.requestSubmit();
      return true;
    },
    "/": openFilters,
    "?": () => { dialog.showModal(); return true; },
  };

  function isTyping(target) {
    return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
  }

  document.addEventListener("keydown", (event) => {
    if (!isOn() || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat && event.key === "n") return;
    if (isTyping(event.target) || dialog.open) return;
    const act = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (act && act(event)) event.preventDefault();
  });
})();
