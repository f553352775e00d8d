"""What a browser is asked about how a page looks and sounds, and the contrast of two colours."""

from __future__ import annotations

import re

# The element that has the focus.
STOP = """() => {
  const at = document.activeElement;
  return at.localName + (at.id ? '#' + at.id : '');
}"""

# Controls that no name is shown of.
_CONTROLS = 'input, select, button, summary, a, [tabindex="0"]'
UNNAMED = (
    f"""() => [...document.querySelectorAll('{_CONTROLS}')]"""
    """
  .filter((at) => {
    const labels = [...(at.labels ?? [])].map((label) => label.textContent).join('');
    return !(labels || at.getAttribute('aria-label') || at.textContent).trim();
  }).map((at) => at.outerHTML)"""
)

# Every visible text with its colour and the nearest ground behind it.
COLOURS = """() => {
  const groundOf = (at) => {
    for (; at; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at);
      if (backgroundColor !== 'rgba(0, 0, 0, 0)') return backgroundColor;
    }
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const at = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !at.checkVisibility() || at.closest('script, noscript')) continue;
    const style = getComputedStyle(at);
    const colour = at.namespaceURI.endsWith('svg') ? style.fill : style.color;
    found.push([text, colour, groundOf(at)]);
  }
  return found;
}"""


def contrast(one: str, other: str) -> float:
    """From 1 to 21, by WCAG's formula (relative luminance, success criterion 1.4.3)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"[0-9]+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
