// Shows one layer's histogram at a time. Without this script all of them stand side by side.
(() => {
  const box = document.getElementById("layers");
  if (!box) return;
  const control = box.querySelector(".control");
  const range = control.querySelector("input[type=range]");
  const all = control.querySelector("input[type=checkbox]");
  const name = control.querySelector("output");
  const items = Array.from(box.querySelectorAll("li"));
  const show = () => {
    const at = Number(range.value);
    items.forEach((item, i) => item.classList.toggle("on", i === at));
    name.textContent = items[at].querySelector("h3").textContent;
    range.setAttribute("aria-valuetext", name.textContent);
    range.disabled = all.checked;
    box.classList.toggle("one", !all.checked);
  };
  range.addEventListener("input", show);
  all.addEventListener("change", show);
  control.hidden = false;
  show();
})();
