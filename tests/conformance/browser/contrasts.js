// What a page's texts and controls are like: {nameless, faint, texts, overflow}.
() => {
  const isShown = (element) =>
    element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && !element.closest(".unseen, .skip");

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  canvas.canvas.width = canvas.canvas.height = 1;
  /** Any CSS colour as [r, g, b, a], each from 0 to 1. */
  const parsed = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((each) => each / 255);
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((each, index) => each * a + below[index] * (1 - a));
  const background = (element) => {
    const layers = [];
    for (let each = element; each !== null; each = each.parentElement) {
      layers.push(parsed(getComputedStyle(each).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [1, 1, 1]);
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  const faint = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !isShown(element) || element.closest("button:disabled, noscript")) continue;
    texts++;
    const below = background(element);
    const ratio = contrast(over(parsed(getComputedStyle(element).color), below), below);
    if (ratio < 4.5) faint.push(`${walker.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }

  const nameless = [];
  for (const element of document.querySelectorAll("button, input, textarea, select, a, [role=menu], nav, dialog, img")) {
    const labels = [...(element.labels ?? [])].map((label) => label.textContent).join("");
    const by = document.getElementById(element.getAttribute("aria-labelledby") ?? "")?.textContent;
    const own = element.matches("button, a") ? element.textContent : "";
    const alt = element.getAttribute("alt");
    const name = [element.getAttribute("aria-label"), by, labels, own].find((each) => each?.trim());
    if (isShown(element) && !name && alt === null) nameless.push(element.outerHTML.slice(0, 100));
  }
  const root = document.documentElement;
  return { nameless, faint, texts, overflow: root.scrollWidth - root.clientWidth };
}
