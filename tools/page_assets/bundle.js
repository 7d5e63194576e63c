// What launcher/k8s_parsl/views/assets/page.js uses.
export {plot, areaY, barX, barY, rectY, rect, ruleY, lineY, stackX, stackY} from "@observablehq/plot";
export {Idiomorph} from "idiomorph/dist/idiomorph.esm.js";
