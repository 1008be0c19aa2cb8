// What /me does better with a script; every page works without. Nothing is loaded, kept or sent from here.
"use strict";

(() => {
  const CODE = /^#[A-Za-z0-9_-]{43}$/;
  const form = document.querySelector("form[data-open]");

  // The code is in the fragment, which browsers do not send. It goes into the form, and out of the address bar.
  if (CODE.test(location.hash)) {
    const code = location.hash.slice(1);
    if (form === null) {
      const page = document.querySelector("a[data-open-page]").dataset.openPage;
      location.replace(page + location.hash); // another record is open here; the link is for a new session
      return;
    }
    history.replaceState(null, "", location.pathname + location.search);
    form.querySelector("#code").value = code;
    form.querySelector(".code-field").hidden = true;
    form.querySelector(".from-link").hidden = false;
    for (const link of document.querySelectorAll("a[data-keeps-code]")) {
      link.hash = code;
    }
    form.querySelector("button").focus();
  }

  const errors = document.getElementById("errors");
  if (errors !== null) {
    errors.focus();
  }

  for (const shown of document.querySelectorAll("[data-count]")) {
    const field = document.getElementById(shown.dataset.count);
    const limit = Number(field.dataset.limit);
    const update = () => {
      const count = Array.from(field.value.trim()).length;
      shown.textContent = shown.dataset.said.replace("{count}", String(count));
      shown.classList.toggle("over", count > limit);
    };
    shown.hidden = false;
    field.addEventListener("input", update);
    update();
  }

  // A second press would send the same words twice.
  for (const each of document.querySelectorAll("form")) {
    each.addEventListener("submit", () => {
      const button = each.querySelector("button");
      setTimeout(() => { button.disabled = true; }, 0);
    });
  }
  window.addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("form button:disabled")) {
      button.disabled = false;
    }
  });
})();
