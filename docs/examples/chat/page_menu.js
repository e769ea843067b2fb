// A menu of buttons beside what opened it, for mouse and keyboard (the ARIA menu button pattern).

const menu = document.getElementById("menu");
let opener = null;

/** Show items [{label, act, isDangerous}] beside a button; an item that is null is a line. */
export function openMenu(button, label, items) {
  if (opener === button) {
    closeMenu();
    return;
  }
  closeMenu();
  menu.replaceChildren(...items.map(build));
  menu.setAttribute("aria-label", label);
  menu.hidden = false;
  opener = button;
  button.setAttribute("aria-expanded", "true");
  place(button);
  menu.querySelector("button")?.focus();
}

export function closeMenu({ isReturning = false } = {}) {
  if (opener === null) return;
  const button = opener;
  opener = null;
  menu.hidden = true;
  button.setAttribute("aria-expanded", "false");
  if (isReturning) button.focus();
}

function build(item) {
  if (item === null) {
    const line = document.createElement("hr");
    line.setAttribute("role", "separator");
    return line;
  }
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("role", "menuitem");
  button.tabIndex = -1;
  button.textContent = item.label;
  button.classList.toggle("dangerous", Boolean(item.isDangerous));
  button.addEventListener("click", () => {
    closeMenu({ isReturning: true });
    item.act();
  });
  return button;
}

function place(button) {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const left = Math.max(8, Math.min(at.right - width, innerWidth - width - 8));
  const below = at.bottom + 4;
  const top = below + height > innerHeight - 8 ? Math.max(8, at.top - height - 4) : below;
  menu.style.left = `${left}px`;
  menu.style.top = `${top}px`;
}

menu.addEventListener("keydown", (event) => {
  const buttons = [...menu.querySelectorAll("button")];
  const index = buttons.indexOf(document.activeElement);
  const to = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: -1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    buttons.at(to % buttons.length).focus();
  } else if (event.key === "Escape" || event.key === "Tab") {
    event.preventDefault();
    closeMenu({ isReturning: true });
  }
});
menu.addEventListener("focusout", (event) => {
  if (!menu.contains(event.relatedTarget) && event.relatedTarget !== opener) closeMenu();
});
document.addEventListener("pointerdown", (event) => {
  if (opener !== null && !menu.contains(event.target) && !opener.contains(event.target)) closeMenu();
});
addEventListener("resize", () => closeMenu());
