// Signing in by an access key; the key itself is not kept in the browser.

import { html, useState } from "../html.js";
import { hasEnded, signIn } from "../session.js";
import { words } from "../words.js";

export function SignIn() {
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await signIn(key.trim());
    } catch (failed) {
      setProblem(failed);
      setBusy(false);
    }
  };
  return html`
    <main id="page" class="sign-in">
      <form class="card" onSubmit=${submit}>
        <img src="/console/static/icon.svg" alt="" width="48" height="48" />
        <h1>${words.signIn.title}</h1>
        <p class="muted">${hasEnded.value ? words.signIn.ended : words.signIn.text}</p>
        <label class="field">${words.signIn.key}
          <input class="input" type="password" name="key" autocomplete="current-password" autofocus required
            value=${key} aria-invalid=${problem ? "true" : undefined} aria-describedby="sign-in-problem"
            onInput=${(event) => setKey(event.target.value)} />
        </label>
        <p id="sign-in-problem" class="field-error" role="alert">
          ${problem && (problem.status === 401 ? words.signIn.wrong : words.problem(problem, false))}
        </p>
        <button class="button primary wide" disabled=${isBusy || !key.trim()}>
          ${isBusy ? words.signIn.busy : words.signIn.enter}
        </button>
      </form>
    </main>`;
}
