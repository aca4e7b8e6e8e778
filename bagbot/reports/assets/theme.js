"use strict";
// Run before anything is drawn, so that a page never flashes in the other colours.
const THEMES = ["auto", "light", "dark"];

function savedTheme() {
  try { return localStorage.getItem("bagbot-theme") || "auto"; } catch { return "auto"; }
}

function applyTheme(theme) {
  const isDark = theme === "dark"
    || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  document.documentElement.dataset.choice = theme;
}

applyTheme(savedTheme());
