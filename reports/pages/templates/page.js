(function () {
  "use strict";
  var root = document.documentElement;
  var all = function (selector, within) { return Array.from((within || document).querySelectorAll(selector)); };

  all(".theme").forEach(function (group) {
    var buttons = all("button", group);
    var show = function () {
      var now = root.dataset.theme || "auto";
      buttons.forEach(function (b) { b.setAttribute("aria-pressed", String(b.dataset.theme === now)); });
    };
    buttons.forEach(function (b) {
      b.addEventListener("click", function () {
        if (b.dataset.theme === "auto") delete root.dataset.theme; else root.dataset.theme = b.dataset.theme;
        try { localStorage.setItem("assay-theme", b.dataset.theme); } catch (e) { /* not kept */ }
        show();
      });
    });
    group.hidden = false;
    show();
  });

  var reveal = function () {
    var at = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!at) return;
    if (at.tagName === "DETAILS") {
      at.hidden = false;
      at.open = true;
      at.scrollIntoView();
      at.querySelector("summary").focus({ preventScroll: true });
    }
  };
  window.addEventListener("hashchange", reveal);
  document.addEventListener("click", function (event) { /* the same link once more changes no hash */
    var link = event.target.closest("a[href^='#claim-']");
    if (link && link.hash === location.hash) setTimeout(reveal);
  });
  reveal();

  var closed = []; /* on paper nothing can be opened */
  window.addEventListener("beforeprint", function () {
    closed = all("details.key:not([open])");
    closed.forEach(function (d) { d.open = true; });
  });
  window.addEventListener("afterprint", function () { closed.forEach(function (d) { d.open = false; }); });

  all("a.download").forEach(function (link) {
    if (typeof DecompressionStream === "undefined") return;
    link.addEventListener("click", async function (event) {
      event.preventDefault();
      var bytes = Uint8Array.from(atob(link.getAttribute("href").split(",")[1]), function (c) { return c.charCodeAt(0); });
      var plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      var url = URL.createObjectURL(await new Response(plain).blob());
      var made = document.createElement("a");
      made.href = url;
      made.download = link.dataset.name;
      made.click();
      setTimeout(function () { URL.revokeObjectURL(url); }, 10000);
    });
  });

  var form = document.getElementById("filter");
  if (!form) return;
  form.hidden = false;
  var claims = all("details.claim");
  var rows = all(".rows .filterable, tr.filterable");
  var byId = new Map(claims.map(function (c) { return [c.id, c]; }));
  var shownBy = function () {
    var words = new Set(all("input[name=word]:checked", form).map(function (i) { return i.value; }));
    var experiment = form.elements.experiment ? form.elements.experiment.value : "";
    var stated = form.elements.stated ? form.elements.stated.value : "";
    var parts = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    return function (data) {
      return (!words.size || words.has(data.word)) && (!experiment || data.experiment === experiment) &&
        (!stated || data.stated === stated) && parts.every(function (p) { return data.text.includes(p); });
    };
  };
  var apply = function () {
    var fits = shownBy(), number = 0;
    claims.forEach(function (c) { c.hidden = !fits(c.dataset); number += c.hidden ? 0 : 1; });
    rows.forEach(function (r) { var c = byId.get(r.dataset.of); r.hidden = c ? c.hidden : !fits(r.dataset); });
    all("tr.group").forEach(function (g) {
      g.hidden = !all("tr.filterable", g.parentElement).some(function (r) { return !r.hidden; });
    });
    all(".row.group").forEach(function (g) {
      var next = g.nextElementSibling;
      var any = all("a", g).some(function (a) { var c = byId.get(decodeURIComponent(a.hash.slice(1))); return c && !c.hidden; });
      while (next && !next.classList.contains("group")) { any = any || !next.hidden; next = next.nextElementSibling; }
      g.hidden = !any;
    });
    all("section.experiment").forEach(function (s) {
      var none = s.querySelector(".none"), own = all("details.claim", s);
      if (none) none.hidden = own.some(function (c) { return !c.hidden; });
    });
    var total = claims.length || rows.length;
    if (!claims.length) number = rows.filter(function (r) { return !r.hidden; }).length;
    document.getElementById("found").textContent = number === total ? total + " claims" : number + " of " + total + " claims";
  };
  form.addEventListener("input", apply);
  form.addEventListener("reset", function () { setTimeout(apply); });
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  var expand = document.getElementById("expand");
  if (expand) expand.addEventListener("click", function () {
    var open = expand.dataset.open !== "true"; /* its name says it: a pressed "Close" would say it twice */
    expand.dataset.open = String(open);
    expand.textContent = open ? "Close every claim" : "Open every claim";
    claims.forEach(function (c) { if (!c.hidden) c.open = open; });
  });
  apply();
})();
