// A page for React: a DOM in this process, and what it takes to wait for what the page shows.
import assert from "node:assert/strict";
import { JSDOM } from "jsdom";

const dom = new JSDOM("<!doctype html><div id=root></div>", { url: "http://localhost/", pretendToBeVisual: true });
for (const name of ["window", "document", "navigator", "HTMLElement", "Node", "sessionStorage", "localStorage", "CustomEvent"]) {
  Object.defineProperty(globalThis, name, { value: name === "window" ? dom.window : dom.window[name], configurable: true });
}

const React = (await import("react")).default;
const { createRoot } = await import("react-dom/client");

// A component that shows nothing and keeps what its hook gives, render after render.
export const mount = (useHook) => {
  const page = { now: undefined, renders: [] };
  const Page = () => {
    page.now = useHook();
    page.renders.push(page.now);
    return null;
  };
  const root = createRoot(document.createElement("div"));
  root.render(React.createElement(Page));
  page.close = () => root.unmount();
  return page;
};

export const until = async (reached, what, within_ms = 25_000) => {
  for (const end = Date.now() + within_ms; Date.now() < end; ) {
    if (await reached()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`waited in vain: ${what}`);
};

export const said = (message) =>
  typeof message?.content === "string" ? message.content : (message?.content ?? []).map((b) => b.text ?? "").join("");
