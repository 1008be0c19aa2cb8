// Takes the code out of the address into the form, so that nobody has to copy it, and out of the address bar.
"use strict";

(() => {
  const code = window.location.hash.slice(1);
  if (!code) return;
  const field = document.getElementById("code");
  field.value = code;
  document.getElementById("code-row").hidden = true;
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  document.querySelector("main form button").focus();
})();
