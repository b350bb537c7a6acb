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

// Parts that refresh: <div id="…" data-refresh="/address" data-every="10">. The answer replaces the inside; focus, what
// was scrolled and what was opened (elements with an id) stay. A hidden page rests; a failed request is tried again
// later and said in [data-refresh-state]; a lost session leads to the login. The answer's [data-refreshed] is the time
// that [data-refresh-time] shows. A part with data-paused rests too.
function replaced(part, text) {
  const focused = document.activeElement && part.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = [...part.querySelectorAll("[id].scroll")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
  const opened = [...part.querySelectorAll("details[id][open]")].map((one) => one.id);
  part.innerHTML = text;
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, left, top] of scrolled) document.getElementById(id)?.scrollTo(left, top);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  const time = part.querySelector("[data-refreshed]"), shown = document.querySelector("[data-refresh-time]");
  if (time && shown) shown.textContent = time.textContent;
  part.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
}
function refreshing(part) {
  const every = Number(part.dataset.every || 10) * 1000;
  const state = document.querySelector("[data-refresh-state]");
  const say = (lost) => { if (state) state.toggleAttribute("data-lost", lost); };
  let waiting = 0;
  async function once() {
    const busy = part.contains(document.activeElement.closest("input, select, textarea, .dropdown-menu.show"));
    if (!document.hidden && !busy && part.dataset.paused === undefined) {
      try {
        const answer = await fetch(part.dataset.refresh, { headers: { "X-Pilulier-Fragment": "1" }, redirect: "manual" });
        if (answer.status === 401 || answer.type === "opaqueredirect") { location.reload(); return; }
        if (answer.ok) replaced(part, await answer.text());
        say(!answer.ok);
      } catch (e) { say(true); }
    }
    clearTimeout(waiting);
    waiting = setTimeout(once, every);
  }
  waiting = setTimeout(once, every);
  // Who comes back to the page sees what is now, not what was when they left.
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { clearTimeout(waiting); once(); } });
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

// A wall fills its screen.
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-fullscreen]")) return;
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => { /* the browser may refuse */ });
});

// Fields that only some roles need: <div data-when-role="admin support"> in a form that has a role to choose.
function showByRole(form) {
  const role = form.elements.role.value;
  form.querySelectorAll("[data-when-role]").forEach((part) => { part.hidden = !part.dataset.whenRole.split(" ").includes(role); });
}
document.querySelectorAll("form:has([data-when-role])").forEach(showByRole);
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form && event.target.name === "role" && form.querySelector("[data-when-role]")) showByRole(form);
});

// Print buttons. Paper is white, whatever the page's mode.
document.addEventListener("click", (event) => { if (event.target.closest("[data-print]")) print(); });
let modeOnScreen = null;
addEventListener("beforeprint", () => {
  modeOnScreen = document.documentElement.getAttribute("data-bs-theme");
  document.documentElement.setAttribute("data-bs-theme", "light");
});
addEventListener("afterprint", () => { document.documentElement.setAttribute("data-bs-theme", modeOnScreen || "light"); });

// A live tail: <button data-tail-toggle="id" hidden> over <tbody id data-tail="/address" data-after="line" data-every>.
// New rows come in at the top; the oldest leave at the bottom, so that a tail left open for days stays light.
const TAIL_ROWS = 1000;
document.querySelectorAll("[data-tail-toggle]").forEach((button) => {
  const body = document.getElementById(button.dataset.tailToggle);
  const label = button.querySelector("[data-on]"), off = label.textContent;
  const state = document.querySelector("[data-tail-state]");
  let on = false, busy = false, waiting = 0;
  async function once() {
    if (busy) return;
    if (!document.hidden) {
      busy = true;
      try {
        const address = new URL(body.dataset.tail, location.href);
        address.searchParams.set("after", body.dataset.after);
        const answer = await fetch(address, { headers: { "X-Pilulier-Fragment": "1" }, redirect: "manual" });
        if (answer.status === 401 || answer.type === "opaqueredirect") { location.reload(); return; }
        if (answer.ok && on) {
          const rows = document.createElement("template");
          rows.innerHTML = await answer.text();
          body.dataset.after = answer.headers.get("X-Pilulier-Newest");
          body.querySelectorAll(".log-new").forEach((row) => row.classList.remove("log-new"));
          rows.content.querySelectorAll("tr").forEach((row) => row.classList.add("log-new"));
          if (rows.content.querySelector("tr")) {
            body.prepend(rows.content);
            body.closest("[hidden]")?.removeAttribute("hidden");
            document.querySelector("[data-tail-empty]")?.remove();
            while (body.rows.length > TAIL_ROWS) body.deleteRow(-1);
          }
        }
        state.toggleAttribute("data-lost", !answer.ok);
      } catch (e) { state.toggleAttribute("data-lost", true); }
      busy = false;
    }
    clearTimeout(waiting);
    if (on) waiting = setTimeout(once, Number(body.dataset.every) * 1000);
  }
  button.hidden = false;
  button.addEventListener("click", () => {
    on = !on;
    button.setAttribute("aria-pressed", String(on));
    label.textContent = on ? label.dataset.on : off;
    state.hidden = !on;
    clearTimeout(waiting);
    if (on) once();
  });
});

// Settings: the preview of a space's colours follows what is chosen, before it is saved.
document.querySelectorAll("form[data-previews]").forEach((form) => {
  const light = (colour) => {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  form.addEventListener("input", (event) => {
    const { name, value } = event.target;
    if (!/^#[0-9a-f]{6}$/i.test(value)) return;
    // White or black, whichever contrasts more: they meet at a luminance of 0.179.
    const on = light(value) > 0.179 ? "#000000" : "#ffffff";
    document.querySelectorAll(`[data-fill="${name}"]`).forEach((part) => part.setAttribute("fill", value));
    document.querySelectorAll(`[data-fill-on="${name}"]`).forEach((part) => part.setAttribute("fill", on));
  });
});
