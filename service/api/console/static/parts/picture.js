// A picture in a box of its final size: grey while it loads, an icon where there is none.

import { html, useLayoutEffect, useRef, useState } from "../html.js";
import { Icon } from "./icons.js";

export function Picture({ src, alt = "", className = "", fallback = "face", isEager = false }) {
  const [state, setState] = useState("loading");
  const ref = useRef();
  // What the browser has already is there at once, without fading in.
  useLayoutEffect(() => {
    setState(ref.current?.complete && ref.current.naturalWidth ? "there" : "loading");
  }, [src]);
  return html`
    <span class=${`picture ${className} ${src ? state : "missing"}`}>
      ${src && state !== "missing" && html`
        <img key=${src} ref=${ref} src=${src} alt=${alt} draggable=${false} decoding="async"
          loading=${isEager ? "eager" : "lazy"}
          onLoad=${() => setState("there")} onError=${() => setState("missing")} />`}
      ${(!src || state === "missing") && html`<${Icon} name=${fallback} size=${28} />`}
    </span>`;
}
