"use strict";
// Search in the weights and the copy button. Everything on the page is visible without this.
const field = document.getElementById("search");
if (field) {
  const found = document.getElementById("found");
  const groups = Array.from(document.querySelectorAll("details.group"), (group) => ({
    group,
    open: group.open,
    rows: Array.from(group.querySelectorAll("tbody tr"), (row) => ({ row, text: row.textContent.toLowerCase() })),
  }));
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { group, open, rows } of groups) {
      let inside = 0;
      for (const { row, text } of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        inside += !row.hidden;
      }
      group.hidden = inside === 0;
      group.open = words.length ? inside > 0 : open;
      shown += inside;
    }
    found.textContent = words.length ? `${shown} found` : "";
  });
  field.closest("p").hidden = false;
}

const copy = document.getElementById("copy");
if (copy) {
  const command = document.getElementById("command");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 2000);
    } catch {
      getSelection().selectAllChildren(command); // the clipboard may be closed to pages from files
    }
  });
  copy.hidden = false;
}
