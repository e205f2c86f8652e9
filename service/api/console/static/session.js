// Who is signed in, what the key may do, and the tenant that is looked at.

import { call, onSessionEnd, resumeReads, stopReads } from "./api.js";
import { computed, signal } from "./html.js";

const LAST_TENANT = "facette.tenant";
// Set while somebody is signed in, so that a first visit asks for no session.
const IS_SIGNED_IN = "facette.signed-in";
const SCOPES = ["read", "write", "admin"];

// undefined until it is known, null while nobody is signed in.
export const session = signal(undefined);
export const hasEnded = signal(false);
export const tenant = signal(null);

const rank = computed(() =>
  Math.max(-1, ...(session.value?.scopes ?? []).map((each) => SCOPES.indexOf(each))));

export const mayWrite = computed(() => rank.value >= 1);
export const mayAdminister = computed(() => rank.value >= 2);

onSessionEnd(() => {
  // Of several calls that are refused at once the first one says so.
  if (session.value === null) return;
  hasEnded.value = true;
  session.value = null;
});

export async function resume() {
  if (!localStorage.getItem(IS_SIGNED_IN)) {
    session.value = null;
    return;
  }
  try {
    enter(await call("GET", "/console/session"));
  } catch (problem) {
    if (problem.status !== 401) throw problem;
    localStorage.removeItem(IS_SIGNED_IN);
    hasEnded.value = true;
    session.value = null;
  }
}

export async function signIn(key) {
  enter(await call("POST", "/console/session", { json: { key } }));
  hasEnded.value = false;
}

export async function signOut() {
  stopReads();
  try {
    await call("DELETE", "/console/session");
  } finally {
    resumeReads();
  }
  localStorage.removeItem(IS_SIGNED_IN);
  session.value = null;
  hasEnded.value = false;
}

function enter(found) {
  const asked = new URLSearchParams(location.search).get("tenant");
  tenant.value = found.tenant_id ?? asked ?? localStorage.getItem(LAST_TENANT);
  session.value = found;
  localStorage.setItem(IS_SIGNED_IN, "yes");
}

export function chooseTenant(id) {
  tenant.value = id;
  if (id === null) localStorage.removeItem(LAST_TENANT);
  else localStorage.setItem(LAST_TENANT, id);
}

// The path of a route of the tenant that is looked at.
export const ofTenant = (path = "") =>
  `/v1/tenants/${encodeURIComponent(tenant.value)}${path}`;

export const cropUrl = (faceId, size = 256, margin = 1.5) =>
  `${ofTenant(`/faces/${faceId}/crop`)}?size=${size}&margin=${margin}`;
export const thumbnailUrl = (imageId, size = 256) =>
  `${ofTenant(`/images/${imageId}/thumbnail`)}?size=${size}`;
export const fileUrl = (imageId) => ofTenant(`/images/${imageId}/file`);
