"use strict";
// Whole volumes in NiiVue where the browser has WebGL 2; the slices stay for all others.
/* global niivue, threePlanes */
(() => {
  // A browser has about sixteen contexts, and a viewer takes two: of a study, some at a time.
  const MOST = 6;
  const open = [];

  function bytes(text) {
    const found = atob(text.trim());
    return Uint8Array.from(found, (letter) => letter.charCodeAt(0)).buffer;
  }

  function whole(root) {
    const stage = root.querySelector(".stage");
    const planes = root.querySelector(".planes");
    const place = root.querySelector(".whole");
    const buttons = [...root.querySelectorAll(".how button")];
    const sides = [...place.querySelectorAll("figure")];
    let made = null; // a NiiVue for each side
    let pair = 0;

    const held = (side) => root.querySelector(
      `script.volume[data-pair="${pair}"][data-side="${side.dataset.side}"]`);

    async function make(side) {
      const canvas = side.querySelector("canvas").cloneNode();
      side.querySelector("canvas").replaceWith(canvas);
      const nv = threePlanes.made(({mm}) => {
        const [x, y, z] = [...mm].map((edge) => edge.toFixed(1));
        root.querySelector(".where").textContent = `R ${x}  A ${y}  S ${z} mm`;
      }, {crosshairColor: [1, 0.75, 0.1, 0.9]});
      await threePlanes.attach(nv, canvas);
      return nv;
    }

    async function draw() {
      for (const [index, side] of sides.entries()) {
        const data = held(side);
        side.hidden = !data;
        if (!data) continue;
        const volume = await niivue.NVImage.loadFromUrl(
          {url: "volume.nii.gz", name: "volume.nii.gz", buffer: bytes(data.textContent)});
        [volume.cal_min, volume.cal_max] = [0, 255];
        for (const old of [...made[index].volumes]) made[index].removeVolume(old);
        made[index].addVolume(volume);
      }
      const shown = made.filter((_, index) => !sides[index].hidden);
      for (const nv of shown) {
        nv.broadcastTo(shown.filter((other) => other !== nv), {"2d": true, "3d": true});
        nv.drawScene();
      }
      root.dataset.drawn = String(pair);
    }

    function press(name) {
      for (const button of buttons) {
        button.setAttribute("aria-pressed", String(button.dataset.how === name));
      }
      place.hidden = name !== "whole";
      planes.hidden = name === "whole";
    }

    function close() {
      for (const nv of made ?? []) nv.gl.getExtension("WEBGL_lose_context")?.loseContext();
      made = null;
      if (open.includes(close)) open.splice(open.indexOf(close), 1);
      press("slices");
    }

    async function start() {
      if (made) return press("whole");
      if (open.length === MOST) open[0]();
      press("whole");
      try {
        made = await Promise.all(sides.map(make));
        open.push(close);
        await draw();
      } catch {
        close(); // a browser that says it has WebGL, and has not: the slices are there
      }
      return undefined;
    }

    buttons.find((button) => button.dataset.how === "whole").addEventListener("click", start);
    buttons.find((button) => button.dataset.how === "slices").addEventListener("click", () => press("slices"));
    root.addEventListener("pair", (event) => {
      pair = event.detail;
      if (made) draw();
    });
    stage.querySelector(".how").hidden = false;
    return start;
  }

  if (!window.niivue || !threePlanes.hasWebgl()) return;
  const viewers = [...document.querySelectorAll(".viewer")].filter((root) => root.querySelector(".whole"));
  const starts = viewers.map(whole);
  if (starts.length === 1) starts[0]();
})();
