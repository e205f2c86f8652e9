// How sure the machine is: a bar from 0 to 1 with its limit in the middle, and the distance in words.

import { share } from "../format.js";
import { html } from "../html.js";
import { words } from "../words.js";

export const Similarity = ({ match }) => html`
  <span class=${`similarity ${match.is_match ? "match" : ""}`} title=${words.evidence(match)}>
    <span class="meter" aria-hidden="true"><i style=${{ width: share100(match.similarity) }} /></span>
    <span class="similarity-text">${share(match.similarity)}</span>
    <span class="unseen">${words.evidence(match)}</span>
  </span>`;

const share100 = (value) => `${Math.round(100 * value)}%`;
