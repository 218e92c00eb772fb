"use strict";
// Slices are drawn from strips that lie in the page as hidden pictures; nothing is fetched.
(() => {
  const number = (element, name) => Number(element.dataset[name]);

  function theme() {
    const root = document.documentElement;
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      name();
    });
    system.addEventListener("change", name);
    button.hidden = false;
    name();
  }

  function viewer(root) {
    const thumbs = [...root.querySelectorAll(".thumb")];
    const planes = [...root.querySelectorAll(".plane")];
    let pair = 0;

    const sprite = (plane) => root.querySelector(
      `.sprite[data-pair="${pair}"][data-plane="${plane.dataset.plane}"]`);

    function draw(plane) {
      const strip = sprite(plane);
      plane.hidden = !strip;
      if (!strip) return;
      const slider = plane.querySelector("input");
      const slice = Number(slider.value);
      const [width, height] = [number(strip, "width"), number(strip, "height")];
      for (const [place, canvas] of [...plane.querySelectorAll("canvas")].entries()) {
        canvas.parentElement.hidden = place === 0 && strip.dataset.real === "0";
        if (canvas.width !== width) canvas.width = width;
        if (canvas.height !== height) canvas.height = height;
        const left = place * number(strip, "across");
        canvas.getContext("2d").drawImage(
          strip, left, slice * number(strip, "down"), width, height, 0, 0, width, height);
      }
      const told = `${slice + 1} of ${strip.dataset.count}`;
      plane.querySelector("output").textContent = told;
      slider.setAttribute("aria-valuetext", `slice ${told}`);
    }

    function place(plane) {
      const strip = sprite(plane);
      if (!strip) return;
      const slider = plane.querySelector("input");
      const last = number(strip, "count") - 1;
      // The same height in the next case, though it may have another number of slices.
      const share = Number(slider.max) > 0 ? Number(slider.value) / Number(slider.max) : 0.5;
      slider.max = last;
      slider.value = Math.round(share * last);
      slider.disabled = last === 0;
    }

    function show(chosen) {
      pair = chosen;
      for (const [index, thumb] of thumbs.entries()) {
        thumb.setAttribute("aria-pressed", String(index === chosen));
      }
      for (const report of root.querySelectorAll(".report")) {
        report.hidden = number(report, "pair") !== chosen;
      }
      root.querySelector(".which").textContent = thumbs[chosen].dataset.told;
      root.dispatchEvent(new CustomEvent("pair", { detail: chosen }));
      for (const plane of planes) {
        place(plane);
        const strip = sprite(plane);
        if (strip && !strip.complete) strip.addEventListener("load", () => draw(plane), { once: true });
        draw(plane);
      }
    }

    for (const [index, thumb] of thumbs.entries()) {
      thumb.addEventListener("click", () => show(index));
    }
    for (const plane of planes) {
      plane.querySelector("input").addEventListener("input", () => draw(plane));
    }
    root.querySelector(".stage").hidden = false;
    show(0);
  }

  theme();
  document.querySelectorAll(".viewer").forEach(viewer);
})();
