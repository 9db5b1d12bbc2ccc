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
    slider.classList.toggle("one", !every);
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

// Pictures of charts: one SVG with all that a chart has, every style written into it, in light colours on white; as a
// PNG that is drawn to a canvas. Nothing is loaded.
const FORM = ["stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap"];
const TEXT = ["font-family", "font-size", "font-weight", "text-anchor"];
const PNG_SCALE = 3;
const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
pen.font = "13px system-ui, sans-serif";

const element = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

// Programs for drawing know neither variables nor mixed colours.
const plainColour = (colour) => {
  if (colour === "none") return colour;
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  const bytes = pen.getImageData(0, 0, 1, 1).data;
  return "#" + [...bytes.slice(0, 3)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};

// A copy that needs no style sheet; null of what is not shown.
const plainCopy = (shown) => {
  const style = getComputedStyle(shown);
  if (style.display === "none") return null;
  const copy = shown.cloneNode(false);
  for (const name of ["class", "style", "data-round"]) copy.removeAttribute(name);
  if (style.opacity !== "1") copy.setAttribute("opacity", style.opacity);
  if (["path", "rect", "circle", "text"].includes(shown.localName)) {
    for (const key of ["fill", "stroke"]) copy.setAttribute(key, plainColour(style[key]));
    if (style.stroke !== "none") for (const key of FORM) copy.setAttribute(key, style.getPropertyValue(key));
    if (shown.localName === "text") for (const key of TEXT) copy.setAttribute(key, style.getPropertyValue(key));
  }
  for (const child of shown.childNodes) {
    const inner = child.nodeType === Node.ELEMENT_NODE ? plainCopy(child) : child.cloneNode();
    if (inner !== null) copy.append(inner);
  }
  return copy;
};

const textPiece = (text, more = {}) => {
  const drawn = element("text", { "font-family": "system-ui, sans-serif", "font-size": 13, fill: "#16191d", ...more });
  drawn.textContent = text;
  return drawn;
};

// Pieces are {width, height, parts: [[element, x, y]]}; they are laid in rows, like words.
const picturePiece = (svg, name) => {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const copy = plainCopy(svg);
  for (const key of ["role", "aria-label", "aria-hidden", "focusable"]) copy.removeAttribute(key);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const parts = name === null ? [[copy, 0, 0]] : [[textPiece(name), 0, 13], [copy, 0, 18]];
  return { width, height: height + (name === null ? 0 : 26), parts };
};
const legendPiece = (item) => {
  const swatch = picturePiece(item.querySelector("svg"), null);
  const name = item.querySelector("span").textContent;
  const parts = [...swatch.parts, [textPiece(name), swatch.width + 5, 12]];
  return { width: swatch.width + 5 + pen.measureText(name).width + 12, height: 20, parts };
};
const lay = (root, pieces, width, top) => {
  let [x, y, row] = [0, top, 0];
  for (const piece of pieces) {
    if (x > 0 && x + piece.width > width) [x, y, row] = [0, y + row, 0];
    for (const [part, right, down] of piece.parts) {
      part.setAttribute("x", x + right + 8);
      part.setAttribute("y", y + down);
      root.append(part);
    }
    x += piece.width + 8;
    row = Math.max(row, piece.height);
  }
  return y + row;
};

const pictureOf = (figure) => {
  const round = figure.querySelector(".slider.one output");
  const title = figure.querySelector("h3").textContent + (round === null ? "" : `, round ${round.textContent}`);
  const chart = figure.querySelector(":scope > svg");
  document.documentElement.classList.add("light");
  try {
    const pieces = chart === null
      ? [...figure.querySelectorAll(".grids figure")].map((grid) => picturePiece(grid.querySelector("svg"), grid.querySelector("figcaption").textContent))
      : [picturePiece(chart, null)];
    const legend = [...figure.querySelectorAll(".legend li")].map(legendPiece);
    const row = pieces.reduce((sum, piece) => sum + piece.width + 8, 0);
    const width = Math.ceil(Math.max(Math.min(row, 1200), pieces[0].width, 1.2 * pen.measureText(title).width) + 8);
    const root = element("svg", { xmlns: "http://www.w3.org/2000/svg", width });
    const ground = root.appendChild(element("rect", { width, fill: "#ffffff" }));
    root.append(textPiece(title, { x: 8, y: 20, "font-size": 15, "font-weight": "bold" }));
    const height = Math.ceil(lay(root, legend, width, lay(root, pieces, width, 30) + 4) + 8);
    root.setAttribute("height", height);
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    ground.setAttribute("height", height);
    return { width, height, text: new XMLSerializer().serializeToString(root) };
  } finally {
    document.documentElement.classList.remove("light");
  }
};

const save = (blob, name) => {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
};

const asPng = async ({ width, height, text }) => {
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: PNG_SCALE * width, height: PNG_SCALE * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
};

for (const button of document.querySelectorAll("button[data-picture]")) {
  const figure = button.closest("figure");
  const kind = button.dataset.picture;
  button.addEventListener("click", async () => {
    const picture = pictureOf(figure);
    const blob = kind === "png" ? await asPng(picture) : new Blob([picture.text], { type: "image/svg+xml" });
    save(blob, `${figure.dataset.file}.${kind}`);
  });
  button.closest("li").hidden = false;
}

// Copying a command. Where a browser lets no page write to the clipboard, the text is selected for Ctrl-C.
for (const button of document.querySelectorAll("button.copy")) {
  const code = button.closest(".command").querySelector("code");
  const said = button.nextElementSibling;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      said.textContent = "selected; press Ctrl-C";
    }
  });
  button.closest("p").hidden = false;
}
