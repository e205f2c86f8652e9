// Tabs: arrows go along them, and the chosen one shows its panel.

import { html, useId, useRef } from "../html.js";

// tabs: [name, label] each. children: the panel of the chosen one.
export function Tabs({ tabs, chosen, choose, label, children }) {
  const id = useId();
  const ref = useRef();
  const key = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const at = tabs.findIndex(([name]) => name === chosen);
    const [next] = tabs[(at + step + tabs.length) % tabs.length];
    choose(next);
    ref.current.querySelector(`[data-tab="${next}"]`).focus();
    event.preventDefault();
  };
  return html`
    <div ref=${ref} class="tabs" role="tablist" aria-label=${label} onKeyDown=${key}>
      ${tabs.map(([name, text]) => html`
        <button key=${name} role="tab" data-tab=${name} id=${`${id}-${name}`} aria-controls=${`${id}-panel`}
          aria-selected=${name === chosen} tabIndex=${name === chosen ? 0 : -1} onClick=${() => choose(name)}>${text}</button>`)}
    </div>
    <div id=${`${id}-panel`} role="tabpanel" aria-labelledby=${`${id}-${chosen}`}>${children}</div>`;
}
