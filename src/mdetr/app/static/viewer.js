// The viewer: an image with its boxes, the text with its phrases, and a table. Pointing at one highlights the others.
const SVG = "http://www.w3.org/2000/svg";
const root = element.querySelector(".mdetr-viewer");

// Highlights every part that belongs to one of these boxes; each part lists the indices of its boxes.
function highlight(indices) {
  const lit = new Set(indices);
  for (const part of root.querySelectorAll("[data-boxes]")) {
    const own = part.dataset.boxes.split(" ").map(Number);
    part.classList.toggle("lit", own.some((index) => lit.has(index)));
  }
  root.classList.toggle("pointing", lit.size > 0);
}

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never as HTML, because texts come from strangers
  return node;
}

// Highlights the boxes of a part when a mouse, a finger or the keyboard points at it.
function respond(node, indices) {
  node.dataset.boxes = indices.join(" ");
  for (const event of ["pointerenter", "focus"]) node.addEventListener(event, () => highlight(indices));
  for (const event of ["pointerleave", "blur"]) node.addEventListener(event, () => highlight([]));
}

function drawPicture(view) {
  const frame = make("div", "frame");
  frame.style.setProperty("--ratio", view.width / view.height);
  const image = make("img");
  image.src = view.picture;
  image.alt = view.summary;
  frame.append(image);
  if (view.mask) {
    const mask = make("img", "mask");
    mask.src = view.mask;
    mask.alt = "";
    frame.append(mask);
  }
  const overlay = document.createElementNS(SVG, "svg");
  overlay.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
  overlay.setAttribute("preserveAspectRatio", "none");
  overlay.setAttribute("aria-hidden", "true");
  // Small boxes are above large ones, so that each can be pointed at.
  const order = view.boxes.map((_, index) => index);
  const area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
  order.sort((a, b) => area(view.boxes[b]) - area(view.boxes[a]));
  for (const index of order) {
    const { box: [x0, y0, x1, y1], color } = view.boxes[index];
    const rectangle = document.createElementNS(SVG, "rect");
    for (const [name, value] of [["x", x0], ["y", y0], ["width", x1 - x0], ["height", y1 - y0]]) {
      rectangle.setAttribute(name, value);
    }
    rectangle.style.stroke = color;
    rectangle.style.fill = color;
    respond(rectangle, [index]);
    overlay.append(rectangle);
  }
  frame.append(overlay);
  // Labels are HTML, so that their size does not depend on the size of the image.
  view.boxes.forEach(({ box: [x0, y0, x1], color, ink, phrase, score }, index) => {
    const label = make("span", "label", `${phrase} ${score.toFixed(2)}`.trim());
    label.setAttribute("aria-hidden", "true");
    // Align the label with the side of its box that is farther from the border, so that it stays in the picture
    if (x0 + x1 > view.width) label.style.right = `${Math.max(0, 100 - (100 * x1) / view.width)}%`;
    else label.style.left = `${Math.max(0, (100 * x0) / view.width)}%`;
    label.style.top = `${(100 * y0) / view.height}%`;
    label.style.background = color;
    label.style.color = ink;
    respond(label, [index]);
    frame.append(label);
  });
  return frame;
}

function drawText(view) {
  const line = make("p", "text");
  line.setAttribute("aria-label", "The text with its phrases");
  for (const { text, boxes, color, ink } of view.words) {
    if (!boxes.length) {
      line.append(text);
      continue;
    }
    const word = make("button", "word", text);
    word.type = "button";
    word.style.setProperty("--color", color);
    word.style.setProperty("--ink", ink);
    respond(word, boxes);
    line.append(word);
  }
  return line;
}

function drawTable(view) {
  const table = make("table");
  const head = make("tr");
  for (const title of ["phrase", "score", "box: x0, y0, x1, y1 (pixels)"]) {
    const cell = make("th", "", title);
    cell.scope = "col";
    head.append(cell);
  }
  table.append(make("caption", "", view.summary), make("thead"), make("tbody"));
  table.tHead.append(head);
  view.boxes.forEach(({ phrase, score, box, color }, index) => {
    const row = make("tr");
    const name = make("th");
    name.scope = "row";
    const dot = make("span", "dot");
    dot.style.background = color;
    name.append(dot, phrase || "(whole text)");
    row.append(name, make("td", "number", score.toFixed(3)));
    row.append(make("td", "number", box.map((value) => value.toFixed(0)).join(", ")));
    row.tabIndex = 0;
    respond(row, [index]);
    table.tBodies[0].append(row);
  });
  return table;
}

let drawn = null;

function draw() {
  const view = props.value;
  // The same result may arrive twice, for example when a slider moves and selects the same boxes.
  const content = JSON.stringify(view);
  if (content === drawn) return;
  drawn = content;
  root.replaceChildren();
  if (!view) return;
  const message = make("p", `message ${view.status}`, view.message);
  message.setAttribute("role", view.status === "error" ? "alert" : "status");
  if (view.answer) root.append(make("p", "answer", view.answer));
  if (view.message) root.append(message);
  if (!view.picture) return;
  root.append(drawText(view), drawPicture(view));
  if (view.boxes.length) root.append(drawTable(view));
}

watch("value", draw);
draw();
