// Every word of the console, in one table: another language is another table of this shape.

import { count, distance, plural } from "./format.js";

const faces = (number) => plural(number, "face", "faces");
const photos = (number) => plural(number, "photo", "photos");
const pairs = (number) => plural(number, "pair of faces", "pairs of faces");
// From here on the faces of a person are looked through rather than looked at.
const MANY = 4;
const nameOf = (person) => person?.label ?? null;

const ENGLISH = {
  product: "Facette",
  skip: "Skip to the content",
  navigation: "Pages",
  messages: "Messages",
  dismiss: "Dismiss",
  close: "Close",
  cancel: "Cancel",
  undo: "Undo",
  undone: "Taken back.",
  tryAgain: "Try again",
  loading: "Loading…",
  offline: "This browser is offline. What you see may be old; answers are kept until the connection is back.",
  forGood: "This cannot be undone.",
  token: "configured token",
  signOut: "Sign out",
  tenant: "Tenant",
  chooseTenant: "Choose a tenant",
  chooseTenantText: "Your key opens several. Choose one at the side; the choice is remembered in this browser.",
  noTenants: { title: "No tenant yet", text: "A tenant is a closed world of photos and people. Make the first one, or store a photo through the API." },
  noPage: { title: "There is no such page", text: "The address names none of the console's pages." },
  noPermission: "Your key may not do this",
  noPermissionText: (scope) => `This page needs a key with the scope ${scope}. Sign in with another key, or ask whoever gave you this one.`,
  noName: "No name",
  typeToConfirm: (text) => `Write ${text} to confirm`,
  faces, photos,
  evidence: (match) => {
    const apart = `${distance(match.distance)} apart`;
    return match.margin === null || match.margin === undefined
      ? apart : `${apart}; the next person is ${distance(match.distance + match.margin)} away`;
  },
  failureTitle: (problem) => {
    if (problem.isOffline) return "The service cannot be reached";
    if (problem.status === 403) return "Your key may not see this";
    return "This could not be loaded";
  },
  // isWrite: something was to be changed, so say whether it was.
  problem: (problem, isWrite) => {
    const what = problem.isOffline ? "The service did not answer."
      : problem.status === 412 ? "Somebody changed this in the meantime. Look at it again, then repeat your change."
      : problem.status === 403 ? "Your key may not do this."
      : problem.message;
    if (!isWrite) return what;
    if (problem.isUncertain) return `${what} It is not known whether your change was saved; look before you repeat it.`;
    return problem.isPartly ? `${what} Not all of your change was saved; look before you repeat it.` : `${what} Nothing was saved.`;
  },
  pages: {
    people: "People", review: "Review", photos: "Photos", search: "Search", upload: "Upload",
    history: "History", status: "Status", keys: "Keys and tenants",
  },
  theme: {
    system: "Theme: system", light: "Theme: light", dark: "Theme: dark",
    change: "Change between system, light and dark",
  },
  signIn: {
    title: "Sign in to Facette",
    text: "With an access key, or with the service's token. It is checked once and not kept in this browser.",
    ended: "Your session has ended. Sign in again to go on where you were.",
    key: "Access key",
    wrong: "This key is not valid. It may be mistyped, expired or revoked.",
    enter: "Sign in", busy: "Signing in…",
  },
  drop: {
    search: "Who is this?", searchText: "Search with one photo. Nothing is stored.",
    store: "Store", storeText: "Add photos and folders to this tenant.",
  },
  conflict: {
    title: "Somebody decided otherwise", confirm: "This is the last word",
  },
  picker: {
    name: "Name", newPerson: "A new person, without a name",
    newNamed: (name) => `A new person, ${name}`,
  },
  people: {
    search: "Search by name", show: "Show", order: "Order",
    shown: { all: "All people", named: "With a name", unnamed: "Without a name", hidden: "Hidden" },
    orders: { faces: "Most faces first", recency: "Newest photo first", label: "By name" },
    count: (number) => `${plural(number, "person", "people")} listed`,
    select: "Select", endSelecting: "Done", selection: "Selected people",
    selectHint: "Select several people: click, Shift, a rectangle, Space or Ctrl+A; Enter opens one.",
    merge: "Merge…", mergeNow: "Merge", name: "Name…", nameNow: "Save the name", whichName: "Which name stays",
    together: (number) => `Are these ${count(number)} one person?`, nameLater: "Without a name",
    nowHidden: (number) => `${plural(number, "person", "people")} hidden from the wall.`,
    shownAgain: (number) => `${plural(number, "person", "people")} shown again.`,
    none: "Nobody here yet",
    noneText: "Store photos: the faces on them are found and grouped into people by themselves.",
    noneFound: "Nobody found", noneFoundText: "No person of this tenant is like that. Try a shorter beginning of the name, or show all people.",
  },
  person: {
    back: "Back to people", parts: "Of this person", name: "Name", giveName: "Give a name", rename: "Change the name", renamed: "Renamed.",
    tabs: { faces: "Faces", photos: "Photos", alike: "Looks alike", history: "History" },
    lastSeen: (day) => `newest ${day}`,
    hidden: "hidden", hide: "Hide", unhide: "Show again", nowHidden: "Hidden from the wall of people.", shownAgain: "Shown again.",
    confirm: "All right", confirmed: "Confirmed: these faces stay together.",
    merge: "Merge…", mergeWith: "Who is the same person?", merged: "Merged into one person.", mergedAll: (number) => `${count(number)} people merged into one.`,
    split: (number) => `${faces(number)} now a person of their own.`,
    coverChosen: "This face is the cover now.",
    erase: "Erase", eraseTitle: "Erase this person?", erased: "The person was erased.",
    eraseText: (person) => `${faces(person.face_count)} go, with their vectors, and every photo that shows nobody else. This cannot be undone.`,
    gone: "This person is gone", goneText: "It was erased, or its last face was moved away.",
    noFaces: "No faces", noFacesText: "A person without faces keeps its name; move faces here from other people.",
  },
  alike: {
    none: "Nobody looks alike", noneText: "There is no other person near enough to compare with.",
    same: "Same", different: "Different", areDifferent: "Different people",
    toldApart: "Told apart: they are not put together any more.",
  },
  face: {
    selectHint: "Select by click, Shift, a rectangle or Space; Enter opens the photo.",
    order: "Order", orders: { newest: "Newest first", odd: "Least sure first" },
    selection: "Selected faces", selected: (number) => `${count(number)} selected`,
    move: "Move to…", moveTo: (number) => `Whose ${number === 1 ? "face is this" : "faces are these"}?`,
    newPerson: "New person", not: "Not this person", cover: "Make cover", photo: "Its photo", find: "Find this person", clear: "Clear the selection",
    moved: (number) => `${faces(number)} moved.`,
    notThis: (number) => `${faces(number)} taken out; who it is becomes a question.`,
    of: (label) => (label ? `Face of ${label}` : "Face"),
    isCover: "The cover of this person",
    evidence: (face) => {
      const parts = [face.distance === null ? "Not placed by distance" : `${distance(face.distance)} from the person`];
      if (face.is_matchable === false) parts.push("too poor to match others");
      return parts.join(", ");
    },
  },
  photo: {
    order: "Order", orders: { created: "Newest upload first", taken: "By the time they were taken" },
    ofMonth: (month) => `Photos of ${month}`, noneTaken: "None of the photos says when it was taken.",
    none: "No photos", noneText: "Drop photos anywhere on this page, or choose them.",
    from: (when, number) => `Photo of ${when}, ${faces(number)}`,
    back: "Back to photos", download: "Download", gone: "This photo is gone", noFaces: "No face was found on it.",
    facts: "About the photo", stored: "Stored", taken: "Taken", size: "File",
    copies: "Near copies", bits: (number) => (number === 0 ? "looks the same" : `${plural(number, "bit", "bits")} of 64 differ`),
    erase: "Delete", eraseTitle: "Delete this photo?", deleted: "The photo was deleted.",
    eraseText: (number) => (number ? `Its file and ${faces(number)} on it go with it.` : "Its file goes with it."),
    eraseAlone: (number, names) => (number === 1 ? `${names} is on no other photo, and goes as well.` : `${names} are on no other photo, and go as well.`),
  },
  copies: {
    back: "Back to the photo", none: "There is no near copy", this: "This photo", copy: "Near copy", unknown: "unknown", more: "more",
    at: (at, of) => `${count(at)} of ${count(of)}`, before: "The copy before", next: "The next copy",
    facts: { dimensions: "Pixels", bytes: "File", format: "Format", taken: "Taken", stored: "Stored", faces: "On it" },
  },
  search: {
    title: "Who is on a photo?", text: "Drop a photo anywhere, paste one, or choose it. It is compared with everybody in this tenant, and not stored.",
    choose: "Choose a photo", another: "Another photo", unknown: "Nobody known",
    noFaces: "No face found", noFacesText: "Faces are found from the front and from three quarters, from about 20 pixels on.",
    nearest: (at, of) => (of > 1 ? `Nearest to face ${at} of ${of}` : "Nearest people"),
    nearestPeople: "Nearest people", thisFace: "The face that is looked for", itsPhoto: "The photo it is on",
    draw: "Is a face not marked? Draw a box around it.", looking: "Looking there…", noFaceThere: "No face was found there. Draw the box a little larger than the face.",
    nobody: "This tenant has nobody to compare with.",
    limit: (value) => `A match is at most ${distance(value)} apart in this tenant.`,
  },
  upload: {
    title: "Drop photos or folders here", text: "Photos that are stored already are told apart, and not stored twice.",
    interrupted: (number) => `${photos(number)} were on their way when this page was closed. Choose the same files or folder again: what is stored already is passed over.`,
    files: "Choose photos", folder: "Choose a folder", filter: "Show", progress: "Progress",
    left: (left, all) => `${count(left)} of ${photos(all)} to go`, over: (all) => `Done with ${photos(all)}`,
    held: "the service is busy; going on by itself",
    stored: (number) => (number === null ? "Stored" : `Stored, ${faces(number)}`),
    states: {
      all: "All", waiting: "Waiting", sending: "Sending", held: "Waiting for the service", stored: "Stored",
      known: "Was there already", failed: "Failed", skipped: "No photo",
    },
    badge: "Photos on their way", retry: (number) => `Try ${count(number)} again`, clear: "Clear the list", open: "Open",
    further: (number) => `and ${count(number)} more`,
  },
  review: {
    asks: {
      new_person: (person, other) => (other ? `Is this ${nameOf(other) ?? "the same as this person"}?` : nameOf(person) ? `Are these all ${nameOf(person)}?` : person.face_count > MANY ? `These ${faces(person.face_count)} are one person. Who is it?` : "Who is this?"),
      same_person: (one, other) => (nameOf(one) && nameOf(other) ? `Are ${nameOf(one)} and ${nameOf(other)} one person?` : "Are these two one person?"),
      weak_match: (person) => (nameOf(person) ? `Is this ${nameOf(person)}?` : "Does this face belong here?"),
      odd_face: (person) => (nameOf(person) ? `Is this still ${nameOf(person)}?` : "Does this face still belong here?"),
    },
    evidence: (question) => {
      if (question.distance === null) return "Nobody else is near.";
      const apart = `${distance(question.distance)} apart`;
      return question.other_distance === null ? `${apart}.` : `${apart}; the next person is ${distance(question.other_distance)} away.`;
    },
    settles: (number, kind) => (number > 0 && kind !== "new_person" ? `The answer settles ${pairs(number)}.` : ""),
    thisFace: "This face", whoIsThis: "Who is this?", otherPerson: "Who is it instead?", answers: "Answers",
    tap: "Tap faces that are somebody else's",
    facesAt: (first, last, all) => `${count(first)} to ${count(last)} of ${faces(all)}`,
    facesBefore: "The faces before", facesNext: "The next faces",
    exceptions: (number) => `${faces(number)} marked as somebody else: taken out before the answer.`,
    labels: {
      any: { yes: "Yes", no: "No", unsure: "Later", name: "Name…", merge: "Somebody else…", photo: "Photo" },
      same_person: { yes: "Same", no: "Different", unsure: "Not sure" },
      weak_match: {},
      odd_face: {},
      new_person: { yes: "Same person", no: "Ignore", merge: "Same as…" },
      name: { yes: "Name…" },
    },
    done: {
      same: "Same", different: "Different", not_sure: "Not sure", yes: "Yes", no: "No", other: "Somebody else", ignore: "Ignored",
    },
    past: "Last answers", takeBack: "Take this answer back",
    states: { saving: "saving", saved: "saved", failed: "not saved", stale: "answered by another", undoing: "taking back", undone: "taken back" },
    allSaved: "All answers saved", saving: (number) => `Saving ${plural(number, "answer", "answers")}`,
    held: (number) => `${plural(number, "answer", "answers")} kept here until the service answers`,
    notSaved: (problem) => (problem.code === "review_answered" ? "Somebody else answered this question first; their answer stands." : `${problem.message} This answer was not saved.`),
    open: (text) => `${text} open questions`, many: (number) => `${count(number)}+`,
    notTakenBack: (problem) => `${problem.message} Not all of the answer was taken back.`,
    settledMeanwhile: "This question was settled in the meantime. Nothing was saved.",
    around: "The photos around", none: "No open questions", noneText: "New ones come with new photos, and when what is known changes. Another reviewer may have some open.",
    missing: "Reviews are not on this service yet", missingText: "A later release of the service has them. People can be named, merged and put right on the page of people.",
    keys: "Keys", keysText: "Choose an action, then press the key for it. Backspace always takes the last answer back.",
    actions: {
      yes: "Yes, the same", no: "No, different, ignore", unsure: "Not sure, later", name: "Name", merge: "Somebody else, same as",
      photo: "The photo around", undo: "Take the last answer back", help: "These keys",
      facesBefore: "The hundred faces before", facesNext: "The next hundred faces",
    },
    changeKey: (action, key) => `${action}: ${key}. Change the key`, pressKey: "Press a key", restoreKeys: "As at first",
  },
  history: {
    filter: "Show", all: "All changes", none: "Nothing happened yet", noneText: "What people and the service do here is listed, with the way back.",
    machine: "by itself", takenBack: "taken back", photo: "open", stored: (number) => `${photos(number)} stored`,
    kinds: {
      "image.inserted": "Photo stored", "image.deleted": "Photo deleted", "face.moved": "Face moved",
      "face.confirmed": "Face confirmed", "face.deleted": "Face deleted", "person.created": "Person made",
      "person.changed": "Person changed", "person.split": "Person split", "person.merged": "People merged",
      "person.confirmed": "Person confirmed", "person.rejoined": "People merged", "person.deleted": "Person erased", "decision.retracted": "Decision retracted",
      "review.answered": "Question answered", "review.deleted": "Question closed", "change.undone": "Change taken back",
      "change.redone": "Change done again",
      "tenant.created": "Tenant made", "tenant.changed": "Limits changed", "tenant.calibrated": "Limit of a match learned",
    },
  },
  status: {
    tenant: (id) => id, service: "Service", ofLimit: (limit) => `of at most ${limit}`,
    noMetrics: "The metrics are not at this address: the service serves them on a port of their own (server.operations_port).",
    charts: { requests: "Requests per second", latency: "Latency, ms", queue: "Queue", batch: "Items per batch", refusals: "Refusals per second", memory: "Memory, MB" },
    series: { requests: "all", photos: "photos", p50: "median", p95: "95 %", waiting: "waiting", inFlight: "in flight" },
    version: "Version", models: "Models", index: "Index",
    indexText: (size, builds) => `${size} of binary codes in memory, ${builds} built for large tenants`,
  },
  keys: {
    keys: "Keys", tenants: "Tenants", make: "New key", none: "No keys yet. The configured token opens every tenant; give people and programs keys of their own.",
    columns: ["Name", "Tenant", "Scope", "Last used", "Valid"], tenantColumns: ["Tenant", "Photos", "Faces", "People", "Since"], actions: "Actions",
    everyTenant: "Every tenant", never: "Never", forever: "Until revoked",
    expires: (when) => `Until ${when}`, revokedOn: (day) => `Revoked ${day}`,
    name: "Name", scope: "May", scopes: { read: "Read", write: "Read and write", admin: "Everything, keys too" }, until: "Valid until (empty: until revoked)",
    rotate: "New secret", rotateTitle: (name) => `A new secret for ${name}?`, rotateText: "The former secret stops working at once.",
    revoke: "Revoke", revokeTitle: (name) => `Revoke ${name}?`, revokeText: "Whoever uses this key is refused within seconds, for good.", revoked: "The key was revoked.",
    secretTitle: "Your new key", secretText: "It is shown this once. Keep it where secrets are kept.", copy: "Copy", copied: "Copied.",
    newTenant: "New tenant", tenantId: "Id of the tenant",
    erase: "Erase", eraseTitle: (id) => `Erase ${id}?`, erased: "The tenant was erased.",
    eraseText: (images, found, people) => `${images} photos, ${found} faces and ${people} people go, with all files. This cannot be undone.`,
  },
};

const TABLES = { en: ENGLISH };

export const words = TABLES[navigator.language.slice(0, 2)] ?? ENGLISH;
