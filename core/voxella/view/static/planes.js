"use strict";
// NiiVue on a canvas: three planes and a rendering, and the keyboard. A plain script after
// niivue.js, for the pages of `voxella view` and for the report, which holds it inside.
/* global niivue */
globalThis.threePlanes = (() => {
  const STEPS = {
    ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowDown: [0, -1, 0], ArrowUp: [0, 1, 0],
    PageDown: [0, 0, -1], PageUp: [0, 0, 1],
  };

  /** Whether the browser draws volumes; a context is limited, so the one asked for is given back. */
  function hasWebgl() {
    const context = document.createElement("canvas").getContext("webgl2");
    context?.getExtension("WEBGL_lose_context")?.loseContext();
    return context !== null;
  }

  /** Return NiiVue; `located` is told the crosshair's place, `more` are options. */
  function made(located, more) {
    return new niivue.Niivue({
      dragAndDropEnabled: false, logLevel: "error", show3Dcrosshair: true, backColor: [0, 0, 0, 1],
      isColorbar: false, multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
      onLocationChange: located, ...more,
    });
  }

  /** Put it on a canvas, whose keys then move the crosshair. */
  async function attach(nv, canvas) {
    await nv.attachToCanvas(canvas);
    nv.setSliceType(nv.sliceTypeMultiplanar);
    nv.setMultiplanarLayout(niivue.MULTIPLANAR_TYPE.GRID);
    canvas.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      nv.moveCrosshairInVox(...step);
    }, true);
  }

  return {hasWebgl, made, attach};
})();
