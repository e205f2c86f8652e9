// Keys and tenants, for those whose key may administer.

import { call, newKey } from "../api.js";
import { attempt } from "../changes.js";
import { count, day, moment } from "../format.js";
import { html, useRef, useState } from "../html.js";
import { chooseTenant, mayAdminister, session, tenant } from "../session.js";
import { tell } from "../toasts.js";
import { words } from "../words.js";
import { readTenants, tenants } from "../frame.js";
import { ask, DialogHead, show } from "../parts/dialog.js";
import { Icon } from "../parts/icons.js";
import { useLoad } from "../parts/load.js";
import { Empty, Failure, Loading } from "../parts/states.js";

const SCOPES = ["read", "write", "admin"];

export function Page() {
  if (!mayAdminister.value) return html`<${Empty} isPage icon="lock" title=${words.noPermission} text=${words.noPermissionText("admin")} />`;
  return html`
    <header class="page-head"><h1>${words.pages.keys}</h1></header>
    <${Keys} />
    ${session.value.tenant_id === null && html`<${Tenants} />`}`;
}

function Keys() {
  const { data, problem, reload } = useLoad((signal) => call("GET", "/v1/keys", { query: { limit: 500 }, signal }), []);
  // The secret is shown this once, also where the dialog was closed meanwhile.
  const issue = (issued) => {
    showSecret(issued);
    reload();
  };
  const make = () => show((close) => html`<${NewKey} close=${close} issue=${issue} />`);
  const rotate = async (key) => {
    if (!await ask({ title: words.keys.rotateTitle(key.name), text: words.keys.rotateText, confirm: words.keys.rotate })) return;
    await attempt(async () => showSecret(await call("POST", `/v1/keys/${key.id}/rotate`, {
      json: {}, headers: { "Idempotency-Key": newKey() } })));
    reload();
  };
  const revoke = async (key) => {
    if (!await ask({ title: words.keys.revokeTitle(key.name), text: words.keys.revokeText, confirm: words.keys.revoke, isDanger: true })) return;
    if (await attempt(() => call("DELETE", `/v1/keys/${key.id}`))) tell(words.keys.revoked);
    reload();
  };
  const state = (key) => key.revoked_at ? words.keys.revokedOn(day(key.revoked_at))
    : key.expires_at ? words.keys.expires(moment(key.expires_at)) : words.keys.forever;
  return html`
    <section class="panel"><div class="tools-row"><h2>${words.keys.keys}</h2>
      <button class="button primary" onClick=${make}><${Icon} name="plus" />${words.keys.make}</button></div>
      ${problem ? html`<${Failure} problem=${problem} retry=${reload} />`
        : !data ? html`<${Loading} count=${3} className="line-tile" />`
        : !data.items.length ? html`<p class="note">${words.keys.none}</p>`
        : html`<div class="table-frame" tabIndex="0" role="region" aria-label=${words.keys.keys}><table>
          <thead><tr>${words.keys.columns.map((each) => html`<th key=${each} scope="col">${each}</th>`)}<th><span class="unseen">${words.keys.actions}</span></th></tr></thead>
          <tbody>${data.items.map((key) => html`
            <tr key=${key.id} class=${key.revoked_at ? "taken-back" : ""}>
              <th scope="row">${key.name}<span class="muted small mono">${key.id}</span></th>
              <td>${key.tenant_id ?? words.keys.everyTenant}</td><td>${key.scopes.join(", ")}</td>
              <td>${key.last_used_at ? moment(key.last_used_at) : words.keys.never}</td><td>${state(key)}</td>
              <td class="row-actions">${!key.revoked_at && html`
                <button class="button small" onClick=${() => rotate(key)}>${words.keys.rotate}</button>
                <button class="button small quiet-danger" onClick=${() => revoke(key)}>${words.keys.revoke}</button>`}</td>
            </tr>`)}</tbody></table></div>`}
    </section>`;
}

// Sends a form: one request at a time, each time under the same Idempotency-Key, so that it is done once.
function useForm(send) {
  const key = useRef(newKey());
  const isBusy = useRef(false);
  const [problem, setProblem] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    if (isBusy.current) return;
    isBusy.current = true;
    try {
      await send({ "Idempotency-Key": key.current });
    } catch (failed) {
      setProblem(failed);
    } finally {
      isBusy.current = false;
    }
  };
  return [problem, submit];
}

function NewKey({ close, issue }) {
  const [name, setName] = useState("");
  const [scope, setScope] = useState("write");
  const [bound, setBound] = useState(session.value.tenant_id ?? tenant.value ?? "");
  const [until, setUntil] = useState("");
  const [problem, submit] = useForm(async (headers) => issue(await call("POST", "/v1/keys", {
    json: { name, scopes: [scope], tenant_id: bound || null, expires_at: until ? new Date(until).toISOString() : null },
    headers,
  })));
  return html`
    <${DialogHead} title=${words.keys.make} close=${close} />
    <form onSubmit=${submit} class="form">
      <label class="field">${words.keys.name}<input class="input" data-first required maxLength="128" value=${name} onInput=${(event) => setName(event.target.value)} /></label>
      <label class="field">${words.tenant}<select class="input" value=${bound} disabled=${session.value.tenant_id !== null} onChange=${(event) => setBound(event.target.value)}>
        ${session.value.tenant_id === null && html`<option value="">${words.keys.everyTenant}</option>`}
        ${(tenants.value ?? []).map((each) => html`<option key=${each.id} value=${each.id}>${each.id}</option>`)}</select></label>
      <label class="field">${words.keys.scope}<select class="input" value=${scope} onChange=${(event) => setScope(event.target.value)}>
        ${SCOPES.map((each) => html`<option key=${each} value=${each}>${words.keys.scopes[each]}</option>`)}</select></label>
      <label class="field">${words.keys.until}<input class="input" type="datetime-local" value=${until} onInput=${(event) => setUntil(event.target.value)} /></label>
      <p class="field-error" role="alert">${problem && words.problem(problem, true)}</p>
      <footer class="dialog-foot"><button type="button" class="button" onClick=${() => close(null)}>${words.cancel}</button>
        <button class="button primary" disabled=${!name.trim()}>${words.keys.make}</button></footer>
    </form>`;
}

const showSecret = (issued) => show((close) => html`
  <${DialogHead} title=${words.keys.secretTitle} close=${close} />
  <p>${words.keys.secretText}</p>
  <p class="secret mono" tabIndex="0">${issued.key}</p>
  <footer class="dialog-foot">
    ${navigator.clipboard && html`<button class="button" onClick=${() => attempt(async () => { await navigator.clipboard.writeText(issued.key); tell(words.keys.copied); })}>${words.keys.copy}</button>`}
    <button class="button primary" data-first onClick=${() => close(null)}>${words.close}</button></footer>`);

function Tenants() {
  const make = async () => {
    const made = await show((close) => html`<${NewTenant} close=${close} />`);
    if (!made) return;
    chooseTenant(made.id);
    await attempt(readTenants);
  };
  const erase = async (each) => {
    const isSure = await ask({
      title: words.keys.eraseTitle(each.id), confirm: words.keys.erase, isDanger: true, typed: each.id,
      text: words.keys.eraseText(count(each.image_count), count(each.face_count), count(each.person_count)),
    });
    if (!isSure) return;
    const done = await attempt(() => call("DELETE", `/v1/tenants/${encodeURIComponent(each.id)}`));
    if (done) tell(words.keys.erased);
    if (done && tenant.value === each.id) chooseTenant(null);
    await attempt(readTenants);
  };
  return html`
    <section class="panel"><div class="tools-row"><h2>${words.keys.tenants}</h2>
      <button class="button" onClick=${make}><${Icon} name="plus" />${words.keys.newTenant}</button></div>
      ${!tenants.value ? html`<${Loading} count=${3} className="line-tile" />`
        : !tenants.value.length ? html`<p class="note">${words.noTenants.title}</p>`
        : html`<div class="table-frame" tabIndex="0" role="region" aria-label=${words.keys.tenants}><table>
          <thead><tr>${words.keys.tenantColumns.map((each, at) => html`<th key=${each} scope="col" class=${at > 0 && at < 4 ? "number" : ""}>${each}</th>`)}<th><span class="unseen">${words.keys.actions}</span></th></tr></thead>
          <tbody>${tenants.value.map((each) => html`
            <tr key=${each.id}><th scope="row">${each.id}</th><td class="number">${count(each.image_count)}</td><td class="number">${count(each.face_count)}</td>
              <td class="number">${count(each.person_count)}</td><td>${day(each.created_at)}</td>
              <td class="row-actions"><button class="button small quiet-danger" onClick=${() => erase(each)}>${words.keys.erase}</button></td></tr>`)}</tbody></table></div>`}
    </section>`;
}

function NewTenant({ close }) {
  const [id, setId] = useState("");
  const [problem, submit] = useForm(async (headers) => close(await call("POST", "/v1/tenants", { json: { id }, headers })));
  return html`
    <${DialogHead} title=${words.keys.newTenant} close=${close} />
    <form onSubmit=${submit} class="form">
      <label class="field">${words.keys.tenantId}<input class="input" data-first required maxLength="128" value=${id} onInput=${(event) => setId(event.target.value)} /></label>
      <p class="field-error" role="alert">${problem && words.problem(problem, true)}</p>
      <footer class="dialog-foot"><button type="button" class="button" onClick=${() => close(null)}>${words.cancel}</button>
        <button class="button primary" disabled=${!id}>${words.keys.newTenant}</button></footer>
    </form>`;
}
