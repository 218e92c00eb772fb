// One volume in NiiVue: three planes and a rendering, crosshair in mm, a window, the keyboard.
// Pages load /static/niivue.js and planes.js before this module; where there is no WebGL2, slices are pictures.
import {make, shown} from "./page.js";

/* global niivue, threePlanes */
/**
 * A viewer as an element; `show` gives it a volume.
 *   label: said to screen readers, and over the picture;  colormap: NiiVue's.
 * Volumes are NIfTI; the address ends in .nii. Pictures (PNG) are shown as they are.
 */
export class Viewer {
  constructor({label, colormap = "gray"}) {
    this.label = label;
    this.colormap = colormap;
    this.nv = null;
    this.closed = false; // what is still on its way is dropped then
    this.where = make("p", {class: "where"});
    this.frame = make("div", {class: "frame"});
    this.low = make("input", {type: "range", min: "0", max: "1", step: "0.005", value: "0"});
    this.high = make("input", {type: "range", min: "0", max: "1", step: "0.005", value: "1"});
    this.windowing = make("div", {class: "windowing"},
      make("label", {}, "Black at", this.low), make("label", {}, "White at", this.high));
    for (const slider of [this.low, this.high]) slider.addEventListener("input", () => this.#window());
    this.title = make("h3", {}, label);
    this.element = make("section", {class: "viewer", "aria-label": label},
      this.title, this.frame, this.where, this.windowing);
  }

  /** Show a volume's address; resolves when it is drawn. */
  async show(address, {title = this.label, picture = false, range = null} = {}) {
    this.title.textContent = title;
    this.element.setAttribute("aria-label", title);
    this.range = range;
    if (picture || !threePlanes.hasWebgl()) return this.#picture(address, title, picture);
    const canvas = await this.#canvas(title);
    const response = await fetch(address);
    if (!response.ok) throw new Error((await response.json()).problem);
    if (this.closed) return;
    const volume = await niivue.NVImage.loadFromUrl({
      url: "volume.nii", name: "volume.nii", buffer: await response.arrayBuffer(), colormap: this.colormap,
    });
    if (this.closed) return;
    for (const old of [...this.nv.volumes]) this.nv.removeVolume(old);
    if (range) [volume.cal_min, volume.cal_max] = range;
    this.nv.addVolume(volume);
    this.full = range ?? [volume.cal_min, volume.cal_max];
    this.low.value = "0";
    this.high.value = "1";
    canvas.setAttribute("aria-label", `${title}: three planes and a rendering. Arrow keys and ` +
      "page up and down move the crosshair.");
    this.nv.drawScene();
    this.nv.createOnLocationChange();
  }

  /** Move the crosshairs of other viewers with this one's. */
  link(others) {
    this.nv?.broadcastTo(others.map((other) => other.nv).filter(Boolean), {"2d": true, "3d": true});
  }

  /** Let go of the graphics memory: a browser has about sixteen contexts. */
  close() {
    this.closed = true;
    this.nv?.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    this.nv?.cleanup?.();
    this.nv = null;
    this.element.remove();
  }

  async #canvas(title) {
    if (this.nv) return this.nv.canvas;
    const canvas = make("canvas", {tabindex: "0", role: "img", "aria-label": title});
    this.frame.replaceChildren(canvas);
    this.nv = threePlanes.made((place) => this.#located(place), {
      crosshairColor: [1, 0.75, 0.1, 0.8], crosshairWidth: 0.4, crosshairWidthUnit: "percent", textHeight: 0.05,
    });
    await threePlanes.attach(this.nv, canvas);
    return canvas;
  }

  #located(place) {
    const [x, y, z] = place.mm;
    const value = place.values?.[0]?.value;
    this.where.textContent = `R ${x.toFixed(1)}  A ${y.toFixed(1)}  S ${z.toFixed(1)} mm` +
      (value === undefined ? "" : `, value ${shown(value)}`);
  }

  #window() {
    const volume = this.nv?.volumes[0];
    if (!volume) return;
    const [low, high] = this.full;
    const at = (slider) => low + Number(slider.value) * (high - low);
    volume.cal_min = Math.min(at(this.low), at(this.high) - 1e-6);
    volume.cal_max = at(this.high);
    this.nv.updateGLVolume();
  }

  #picture(address, title, picture) {
    const source = picture ? address : `${address.replace(/\.nii$/, ".png")}`;
    this.windowing.hidden = true;
    this.where.textContent = picture ? "" : "This browser has no WebGL2: three planes as a picture.";
    this.frame.className = "still";
    this.frame.replaceChildren(make("img", {src: source, alt: title}));
  }
}
