// useStream of the SDK's React module, in a DOM, against a running server.
import assert from "node:assert/strict";
import test from "node:test";
import { mount, said, until } from "./dom.mjs";

const { Client } = await import("@langchain/langgraph-sdk");
const { useStream } = await import("@langchain/langgraph-sdk/react");
const apiUrl = process.env.SERVER;
const client = new Client({ apiUrl });

const open = (assistantId, options = {}) => {
  let threadId = options.threadId ?? null;
  const page = mount(() =>
    useStream({ apiUrl, assistantId, messagesKey: "messages", ...options, onThreadId: (id) => (threadId = id) }),
  );
  page.threadId = () => threadId;
  page.texts = () => page.now.messages.map(said);
  return page;
};
const hi = { messages: [{ type: "human", content: "hi" }] };
const ready = (page) => until(() => page.now && !page.now.isThreadLoading, "the page is ready");

test("tokens appear one after the other", async () => {
  const page = open("chat");
  await ready(page);
  page.now.submit(hi);
  await until(() => !page.now.isLoading && page.texts().at(-1) === "one two three four", "the whole answer");
  const seen = new Set(page.renders.map((render) => said(render.messages.at(-1))));
  assert.ok(seen.has("one ") && seen.has("one two "), [...seen].join("|"));
  assert.equal(page.now.error, undefined);
  page.close();
});

test("an interrupt is shown and answered", async () => {
  const page = open("approval");
  await ready(page);
  page.now.submit(hi);
  await until(() => page.now.interrupt && !page.now.isLoading, "the question");
  assert.deepEqual(page.now.interrupt.value, { question: "go on?" });
  page.now.submit(undefined, { command: { resume: "yes" } });
  await until(() => page.texts().at(-1) === "you said yes" && !page.now.isLoading, "the answer");
  assert.ok(!page.now.interrupt);
  page.close();
});

test("a message is edited, which forks the conversation", async () => {
  const page = open("chat", { fetchStateHistory: true });
  await ready(page);
  page.now.submit(hi);
  await until(() => page.texts().length === 2 && !page.now.isLoading && page.now.history.length > 1, "an answer");
  const { firstSeenState } = page.now.getMessagesMetadata(page.now.messages[0]);
  page.now.submit(
    { messages: [{ type: "human", content: "hello" }] }, { checkpoint: firstSeenState.parent_checkpoint },
  );
  await until(() => !page.now.isLoading && page.texts()[0] === "hello" && page.texts().length === 2, "another answer");
  await until(() => page.now.getMessagesMetadata(page.now.messages[0])?.branchOptions?.length === 2, "two branches");
  page.now.setBranch(page.now.getMessagesMetadata(page.now.messages[0]).branchOptions[0]);
  await until(() => page.texts()[0] === "hi", "the branch before");
  page.close();
});

test("a page that is loaded again goes on with the stream of its run", async () => {
  const options = { reconnectOnMount: true };
  const first = open("chat", options);
  await ready(first);
  first.now.submit({ messages: [{ type: "human", content: "for long" }] }, { streamResumable: true });
  await until(() => first.texts().at(-1)?.includes("tick tick"), "some tokens");
  const threadId = first.threadId();
  first.close();
  const again = open("chat", { ...options, threadId });
  await until(() => again.now?.texts || (again.now?.isLoading && again.texts().at(-1)?.includes("tick tick")), "tokens");
  await again.now.stop();
  await until(async () => (await client.threads.get(threadId)).status !== "busy", "the run has stopped");
  again.close();
});

test("a run is stopped", async () => {
  const page = open("chat");
  await ready(page);
  page.now.submit({ messages: [{ type: "human", content: "for long" }] });
  await until(() => page.texts().at(-1)?.includes("tick"), "tokens");
  await page.now.stop();
  await until(() => !page.now.isLoading, "it is not loading any more");
  await until(async () => (await client.threads.get(page.threadId())).status !== "busy", "the run has stopped");
  page.close();
});

test("a failure is shown", async () => {
  const page = open("failing");
  await ready(page);
  page.now.submit({ steps: [] });
  await until(() => page.now.error && !page.now.isLoading, "an error");
  assert.match(String(page.now.error.message ?? page.now.error), /kaboom/);
  page.close();
});
