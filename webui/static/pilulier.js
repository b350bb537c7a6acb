// What pages do by themselves. Everything works without it but refreshing, copying and the menu.
"use strict";

// Light and dark.
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-mode-toggle]")) return;
  const root = document.documentElement;
  const next = root.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
  root.setAttribute("data-bs-theme", next);
  try { localStorage.setItem("mode", next); } catch (e) { /* storage may be closed */ }
});

// Copy buttons.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = button.parentElement.querySelector("[data-copy-source]");
  const label = button.querySelector("[data-copy-label]");
  const text = source.textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch (e) {
    // Without TLS browsers refuse the clipboard: select the text instead, so that Ctrl+C takes it.
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return;
  }
  const before = label.textContent;
  label.textContent = label.dataset.done;
  setTimeout(() => { label.textContent = before; }, 2000);
});

// Parts that refresh: <div id="…" data-refresh="/address" data-every="10">. The answer replaces the inside. A hidden
// page rests; a failed request is tried again later and said in [data-refresh-state]; a lost session leads to the login.
function refreshing(part) {
  const every = Number(part.dataset.every || 10) * 1000;
  const state = document.querySelector("[data-refresh-state]");
  const say = (lost) => { if (state) state.toggleAttribute("data-lost", lost); };
  async function once() {
    if (!document.hidden && !part.contains(document.activeElement.closest("input, select, textarea, .dropdown-menu.show"))) {
      try {
        const answer = await fetch(part.dataset.refresh, { headers: { "X-Pilulier-Fragment": "1" }, redirect: "manual" });
        if (answer.status === 401 || answer.type === "opaqueredirect") { location.reload(); return; }
        if (answer.ok) {
          const text = await answer.text();
          const focused = document.activeElement && part.contains(document.activeElement) ? document.activeElement.id : "";
          part.innerHTML = text;
          if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
          part.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
        }
        say(!answer.ok);
      } catch (e) { say(true); }
    }
    setTimeout(once, every);
  }
  setTimeout(once, every);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) say(false); });
}
document.querySelectorAll("[data-refresh]").forEach(refreshing);

// Filters that apply as soon as something is chosen: <form data-auto-submit>.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto-submit]");
  if (form && event.target.matches("select, input[type=checkbox], input[type=radio], input[type=date], input[type=month]")) form.requestSubmit();
});

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "1";
  setTimeout(() => { delete form.dataset.sent; }, 4000);
});
