// Light or dark before the first pixel: what the reader chose, else what the system says.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("mode"); } catch (e) { /* storage may be closed */ }
  var dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.setAttribute("data-bs-theme", dark ? "dark" : "light");
})();
