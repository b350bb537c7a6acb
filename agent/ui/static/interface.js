// What the local interface's pages do by themselves beside pilulier.js. Everything works without it, a page at a time.
"use strict";

const FRAGMENT = { headers: { "X-Pilulier-Fragment": "1" }, redirect: "manual" };

async function fetched(address, options) {
  const answer = await fetch(address, options);
  // A lost seat, or anything unforeseen: the whole page says what it is.
  if (!answer.ok || answer.type === "opaqueredirect") { location.reload(); throw new Error("reloaded"); }
  return answer.text();
}

// A tree whose folders are fetched when they are opened: <form data-tree data-branch="/address" data-touches="id">.
// Ticks and crosses are the form's buttons; the answer to a press is the tree anew, with the same folders open.
document.querySelectorAll("form[data-tree]").forEach((form) => {
  const body = form.querySelector("[data-tree-body]");
  form.querySelectorAll("input[name=open]").forEach((input) => input.remove());
  const opened = (within) => [...within.querySelectorAll("ul[data-branch-of]")].map((list) => `${list.dataset.branchOf}:${list.dataset.pages}`);
  const branch = (token, pages, open) => {
    const address = new URL(form.dataset.branch, location.href);
    address.searchParams.set("at", token);
    address.searchParams.set("pages", pages);
    open.forEach((word) => address.searchParams.append("open", word));
    return fetched(address, FRAGMENT);
  };
  async function open(link) {
    const node = link.closest("li");
    const inside = node.querySelector(":scope > ul");
    if (inside) {
      inside.remove();
      link.setAttribute("aria-expanded", "false");
      return;
    }
    link.setAttribute("aria-busy", "true");
    const text = await branch(link.dataset.open, 1, []);
    link.removeAttribute("aria-busy");
    if (node.querySelector(":scope > ul")) return;
    node.insertAdjacentHTML("beforeend", text);
    link.setAttribute("aria-expanded", "true");
  }
  async function more(link) {
    const list = link.closest("ul"), rows = list.querySelectorAll(":scope > .tree-node").length;
    const text = await branch(link.dataset.more, Number(list.dataset.pages) + 1, opened(list));
    const place = document.createElement("template");
    place.innerHTML = text;
    const anew = place.content.querySelector("ul");
    list.replaceWith(anew);
    anew.querySelectorAll(":scope > .tree-node")[rows]?.querySelector("a, button")?.focus();
  }
  body.addEventListener("click", (event) => {
    const link = event.target.closest("[data-open], [data-more]");
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    (link.dataset.open ? open(link) : more(link)).catch(() => { /* the page reloads */ });
  });
  // What matters is seen at once, however much stands above it.
  const first = body.querySelector(".tree-included, .tree-mixed");
  if (first && !location.hash) body.scrollTop = first.offsetTop - body.offsetTop - body.clientHeight / 3;
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy || !event.submitter) return;
    busy = true;
    const data = new URLSearchParams(new FormData(form));
    opened(body).forEach((word) => data.append("open", word));
    data.append(event.submitter.name, event.submitter.value);
    const focused = event.submitter.id;
    try {
      body.innerHTML = await fetched(form.action, { ...FRAGMENT, method: "POST", body: data });
      document.getElementById(focused)?.focus({ preventScroll: true });
      const part = document.getElementById(form.dataset.touches);
      if (part) replaced(part, await fetched(part.dataset.refresh, FRAGMENT));
    } catch (e) { /* the page reloads */ } finally { busy = false; }
  });
  // Arrows walk: up and down in the same column, right opens, left closes or goes to the folder above.
  body.addEventListener("keydown", (event) => {
    const here = event.target.closest(".tree-row");
    if (!here || event.altKey || event.ctrlKey || event.metaKey) return;
    const opener = here.querySelector("[data-open]");
    const isOpen = opener?.getAttribute("aria-expanded") === "true";
    const kind = ["tree-tick", "tree-cross"].find((name) => event.target.classList.contains(name)) || "tree-open";
    const go = (row) => (row?.querySelector(`.${kind}:is(a, button)`) || row?.querySelector("button:not([disabled]), a"))?.focus();
    const all = [...body.querySelectorAll(".tree-row")], at = all.indexOf(here);
    if (event.key === "ArrowDown") go(all[at + 1]);
    else if (event.key === "ArrowUp") go(all[at - 1]);
    else if (event.key === "ArrowRight" && opener && !isOpen) open(opener).catch(() => {});
    else if (event.key === "ArrowLeft" && isOpen) open(opener).catch(() => {});
    else if (event.key === "ArrowLeft") go(here.closest("ul").closest("li")?.querySelector(".tree-row"));
    else if (event.key === " " && event.target.matches("[data-open]")) open(event.target).catch(() => {});
    else return;
    event.preventDefault();
  });
});

// Parts that take their time are fetched once the page stands, not with it.
document.querySelectorAll("[data-now]").forEach(async (part) => {
  try { replaced(part, await fetched(part.dataset.refresh, FRAGMENT)); } catch (e) { /* the page reloads */ }
});

// A restore that has ended: its part refreshes no more.
document.addEventListener("refreshed", (event) => {
  if (event.target.id === "job" && event.target.querySelector("#done")) event.target.dataset.paused = "";
});
