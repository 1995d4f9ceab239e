// What can be scrolled sideways must be reachable by keyboard.
window.addEventListener("load", () => {
  for (const box of document.querySelectorAll("pre, .cell_output .output, .bd-article table, .math")) {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      box.setAttribute("role", box.tagName === "TABLE" ? "table" : "group");
      if (box.tagName !== "TABLE") box.setAttribute("aria-label", "Scrolls sideways");
    }
  }
});
