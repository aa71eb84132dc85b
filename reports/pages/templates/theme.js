(function () {
  var saved = null;
  try { saved = localStorage.getItem("assay-theme"); } catch (e) { /* a page from disk may have no storage */ }
  document.documentElement.className = "js";
  if (saved === "light" || saved === "dark") document.documentElement.dataset.theme = saved;
})();
