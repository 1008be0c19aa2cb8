// Keys of the queue. None works while somebody types, and they can be switched off.
"use strict";

(() => {
  const rows = [...document.querySelectorAll("[data-row]")];
  const dialog = document.getElementById("keys");
  const enabled = document.getElementById("keys-on");
  const OFF = "console-keys-off";
  let place = -1;

  enabled.checked = localStorage.getItem(OFF) === null;
  const hint = document.querySelector(".keys-hint");
  const show = () => { if (hint) hint.hidden = !enabled.checked; };
  enabled.addEventListener("change", () => {
    if (enabled.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
    show();
  });
  show();

  const go = (step) => {
    if (!rows.length) return;
    place = Math.min(Math.max(place + step, 0), rows.length - 1);
    const link = rows[place].querySelector("[data-open]");
    link.focus();
    rows[place].scrollIntoView({ block: "nearest" });
  };
  const typing = (target) => target.isContentEditable || /^(input|select|textarea)$/i.test(target.tagName);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || dialog.open) return;
    if (event.key === "?") { dialog.showModal(); event.preventDefault(); return; }
    if (!enabled.checked) return;
    if (event.key === "j") go(1);
    else if (event.key === "k") go(-1);
    else if (event.key === "o" && place >= 0) rows[place].querySelector("[data-open]").click();
    else if (event.key === "n") document.querySelector("[data-key-next]")?.click();
    else if (event.key === "/") document.querySelector("[data-key-filter]")?.focus();
    else return;
    event.preventDefault();
  });
})();
