// The sliders: show the lines of one round. Without JavaScript all rounds are shown and there is no slider.
for (const slider of document.querySelectorAll(".slider")) {
  const figure = slider.closest("figure");
  const range = slider.querySelector("input[type=range]");
  const all = slider.querySelector("input[type=checkbox]");
  const output = slider.querySelector("output");
  const lines = figure.querySelectorAll("[data-round]");
  const show = () => {
    const every = all !== null && all.checked;
    output.textContent = every ? "all" : range.value;
    for (const line of lines) {
      const chosen = line.dataset.round === range.value;
      line.classList.toggle("dim", !every && !chosen && slider.dataset.only === "0");
      line.classList.toggle("gone", !chosen && slider.dataset.only === "1");
      line.classList.toggle("chosen", !every && chosen);
    }
  };
  range.addEventListener("input", () => {
    if (all !== null) all.checked = false;
    show();
  });
  if (all !== null) all.addEventListener("change", show);
  slider.hidden = false;
  show();
}
