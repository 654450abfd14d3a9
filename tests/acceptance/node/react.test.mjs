// useStream of @langchain/react, which speaks the thread-centric protocol, in a DOM, against a running server.
import assert from "node:assert/strict";
import test from "node:test";
import { mount, said, until } from "./dom.mjs";

const { Client } = await import("@langchain/langgraph-sdk");
const { useMessageMetadata, useStream } = await import("@langchain/react");
const apiUrl = process.env.SERVER;
const client = new Client({ apiUrl });

const open = (assistantId, options = {}) => {
  let threadId = options.threadId ?? null;
  const page = mount(() => {
    const stream = useStream({ apiUrl, assistantId, ...options, onThreadId: (id) => (threadId = id) });
    page.origin = useMessageMetadata(stream, stream.messages.at(-1)?.id)?.parentCheckpointId;
    return stream;
  });
  page.threadId = () => threadId ?? page.now.threadId;
  page.texts = () => page.now.messages.map(said);
  return page;
};
const human = (content) => ({ messages: [{ type: "human", content }] });
const ready = (page) => until(() => page.now && !page.now.isThreadLoading, "the page is ready");

test("tokens appear one after the other, in one turn and in the next", async () => {
  const page = open("chat");
  await ready(page);
  for (const turns of [1, 2]) {
    page.now.submit(human("hi"));
    await until(() => page.texts().length === 2 * turns, "an answer");
    await until(() => !page.now.isLoading && page.texts().at(-1) === "one two three four", "the whole answer");
  }
  const seen = new Set(page.renders.map((render) => said(render.messages.at(-1))));
  assert.ok(seen.has("one ") || seen.has("one two "), [...seen].join("|"));
  page.close();
});

test("an interrupt is shown and answered", async () => {
  const page = open("approval");
  await ready(page);
  page.now.submit(human("hi"));
  await until(() => page.now.interrupt && !page.now.isLoading, "the question");
  assert.deepEqual(page.now.interrupt.value, { question: "go on?" });
  await page.now.respond("yes");
  await until(() => page.texts().at(-1) === "you said yes" && !page.now.isLoading, "the answer");
  assert.ok(!page.now.interrupt);
  page.close();
});

test("a conversation is forked from a checkpoint", async () => {
  const page = open("chat");
  await ready(page);
  page.now.submit(human("hi"));
  await until(() => page.texts().at(-1) === "one two three four" && !page.now.isLoading, "an answer");
  const past = await client.threads.getHistory(page.threadId());
  const start = past.find((state) => state.next[0] === "__start__");
  page.now.submit(human("hello"), { forkFrom: start.checkpoint.checkpoint_id });
  await until(() => page.texts()[0] === "hello" && page.texts().length === 2 && !page.now.isLoading, "another answer");
  const state = await client.threads.getState(page.threadId());
  assert.deepEqual(state.values.messages.map(said), ["hello", "one two three four"]);
  page.close();
});

test("an answer knows the checkpoint before it, from which it is given anew", async () => {
  const page = open("chat");
  await ready(page);
  page.now.submit(human("hi"));
  await until(() => page.texts().at(-1) === "one two three four" && !page.now.isLoading, "an answer");
  const past = await client.threads.getHistory(page.threadId());
  const before = past.find((state) => state.next[0] === "say").checkpoint.checkpoint_id;
  await until(() => page.origin === before, "the checkpoint before the answer");
  page.now.submit(null, { forkFrom: page.origin });
  const runs = () => client.runs.list(page.threadId());
  await until(async () => (await runs()).length === 2 && (await runs())[0].status === "success", "another run");
  assert.deepEqual((await client.threads.getState(page.threadId())).values.messages.map(said), ["hi", "one two three four"]);
  page.close();
});

test("a page that is loaded again shows the run that is under way, and its end", async () => {
  const first = open("chat");
  await ready(first);
  first.now.submit(human("for long"));
  await until(() => first.texts().at(-1)?.includes("tick tick"), "some tokens");
  const threadId = first.threadId();
  first.close();
  const again = open("chat", { threadId });
  await until(() => again.now && again.now.isLoading && again.texts().at(-1)?.includes("tick tick"), "tokens");
  const [run] = await client.runs.list(threadId);
  await client.runs.cancel(threadId, run.run_id, true);
  await until(() => !again.now.isLoading, "it is not loading any more");
  again.close();
});

test("a run is stopped", async () => {
  const page = open("chat");
  await ready(page);
  page.now.submit(human("for long"));
  await until(() => page.now.isLoading && page.texts().at(-1)?.includes("tick"), "tokens");
  await page.now.stop();
  await until(() => !page.now.isLoading, "it is not loading any more");
  await until(async () => (await client.runs.list(page.threadId()))[0].status === "interrupted", "it has stopped");
  page.close();
});

test("a page that is loaded long after shows the thread as it is, and goes on", async () => {
  const { thread_id: threadId } = await client.threads.create();
  await client.runs.wait(threadId, "chat", { input: human("hi") });
  const page = open("chat", { threadId });
  await ready(page);
  await until(() => page.texts().at(-1) === "one two three four", "what was said");
  page.now.submit(human("again"));
  await until(() => page.texts().length === 4 && !page.now.isLoading, "another turn");
  assert.deepEqual(page.texts(), ["hi", "one two three four", "again", "one two three four"]);
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

test("a script awaits the output of a run, also of one that is cancelled", async () => {
  const thread = client.threads.stream({ assistantId: "chat" });
  await thread.run.start({ input: human("hi") });
  assert.equal((await thread.output).messages.length, 2);
  for await (const message of thread.messages) {
    assert.equal(await message.text, "one two three four");
    break; // to who comes after the end nobody says that there is no more
  }
  await thread.close();
  const other = client.threads.stream({ assistantId: "chat" });
  const { run_id } = await other.run.start({ input: human("for long") });
  await until(async () => (await client.runs.get(other.threadId, run_id)).status === "running", "it runs");
  await client.runs.cancel(other.threadId, run_id);
  await other.output;
  await other.close();
});
