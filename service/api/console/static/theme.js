// Light, dark, or as the system has it.

import { effect, signal } from "./html.js";

const KEY = "facette.theme";
const CHOICES = ["system", "light", "dark"];

export const theme = signal(CHOICES.find((each) => each === localStorage.getItem(KEY)) ?? "system");

effect(() => {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  localStorage.setItem(KEY, theme.value);
});

export function nextTheme() {
  theme.value = CHOICES[(CHOICES.indexOf(theme.value) + 1) % CHOICES.length];
}
