// The JavaScript SDK against a running server: SERVER names it, SDK the package.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";

const { Client } = await import(process.env.SDK ?? "@langchain/langgraph-sdk");
const client = new Client({ apiUrl: process.env.SERVER, apiKey: "none" });

const collect = async (stream) => {
  const found = [];
  for await (const part of stream) found.push(part);
  return found;
};
const names = (parts) => [...new Set(parts.map((part) => part.event))];
const until = async (reached, within_ms = 20_000) => {
  for (const end = Date.now() + within_ms; Date.now() < end; ) {
    if (await reached()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail("it did not come to that");
};

test("threads are made, labelled, found, counted, copied and deleted", async () => {
  const label = randomUUID();
  const made = await client.threads.create({ metadata: { label } });
  assert.equal((await client.threads.get(made.thread_id)).metadata.label, label);
  await client.threads.update(made.thread_id, { metadata: { more: 1 } });
  assert.deepEqual((await client.threads.search({ metadata: { label } })).map((t) => t.thread_id), [made.thread_id]);
  if (client.threads.count) assert.equal(await client.threads.count({ metadata: { label } }), 1);
  const twin = await client.threads.copy(made.thread_id);
  assert.notEqual(twin.thread_id, made.thread_id);
  await client.threads.delete(made.thread_id);
  await assert.rejects(client.threads.get(made.thread_id), /404/);
});

test("a run is waited for, joined and listed", async () => {
  const { thread_id } = await client.threads.create();
  assert.deepEqual(await client.runs.wait(thread_id, "plain", { input: { steps: [] } }), { steps: ["work"] });
  const run = await client.runs.create(thread_id, "plain", { input: { steps: [] } });
  assert.deepEqual(await client.runs.join(thread_id, run.run_id), { steps: ["work", "work"] });
  assert.equal((await client.runs.get(thread_id, run.run_id)).status, "success");
  assert.equal((await client.runs.list(thread_id)).length, 2);
  assert.deepEqual(await client.runs.wait(null, "plain", { input: { steps: [] } }), { steps: ["work"] });
});

test("a failed run rejects who waits for it, and its stream tells why", async () => {
  const { thread_id } = await client.threads.create();
  await assert.rejects(client.runs.wait(thread_id, "failing", { input: {} }), /kaboom/);
  const parts = await collect(client.runs.stream(thread_id, "failing", { input: {}, streamMode: "values" }));
  assert.deepEqual(parts.at(-1).data, { error: "ValueError", message: "kaboom" });
});

test("a stream tells its run at once, and tokens one by one", async () => {
  const { thread_id } = await client.threads.create();
  let created;
  const parts = await collect(
    client.runs.stream(thread_id, "chat", {
      input: { messages: [{ type: "human", content: "hi" }] },
      streamMode: ["values", "updates", "messages-tuple", "custom"],
      onRunCreated: (run) => (created = run),
    }),
  );
  assert.equal(parts[0].event, "metadata");
  assert.equal(created.run_id, parts[0].data.run_id);
  assert.equal(created.thread_id, thread_id);
  for (const name of ["values", "updates", "messages", "custom"]) assert.ok(names(parts).includes(name), name);
  const tokens = parts.filter((part) => part.event === "messages" && part.data[0].type === "AIMessageChunk");
  assert.ok(tokens.length > 3);
  assert.equal(tokens.map((part) => part.data[0].content).join(""), "one two three four");
});

test("a resumable stream goes on after what was seen", async () => {
  const { thread_id } = await client.threads.create();
  const options = { input: { steps: [] }, streamMode: ["values", "updates"], streamResumable: true };
  const parts = await collect(client.runs.stream(thread_id, "plain", options));
  const seen = parts.filter((part) => part.id);
  assert.ok(seen.length >= 3);
  const run_id = parts[0].data.run_id;
  const after = (lastEventId) => collect(client.runs.joinStream(thread_id, run_id, { lastEventId }));
  assert.deepEqual((await after(seen[1].id)).map((part) => part.id), seen.slice(2).map((part) => part.id));
  assert.deepEqual((await after("-1")).filter((part) => part.id).length, seen.length);
});

test("a graph that asks is answered, and its past can be forked", async () => {
  const { thread_id } = await client.threads.create();
  const asked = await client.runs.wait(thread_id, "asking", { input: { steps: [] } });
  assert.deepEqual(asked.__interrupt__[0].value, { question: "go on?" });
  assert.equal((await client.threads.get(thread_id)).status, "interrupted");
  const answered = await client.runs.wait(thread_id, "asking", { command: { resume: "yes" } });
  assert.equal(answered.answer, "yes");
  const past = await client.threads.getHistory(thread_id);
  const fork = past.find((state) => state.next[0] === "ask");
  const again = await client.runs.wait(thread_id, "asking", { input: null, checkpoint: fork.checkpoint });
  assert.equal(again.__interrupt__.length, 1);
  const state = await client.threads.getState(thread_id);
  assert.deepEqual(state.next, ["ask"]);
  await client.threads.updateState(thread_id, { values: { steps: ["by hand"], answer: "me" }, asNode: "ask" });
  const edited = await client.threads.getState(thread_id);
  assert.equal(edited.values.answer, "me");
  assert.deepEqual(edited.next, []);
  await client.threads.patchState(thread_id, { noted: "here" });
  assert.equal((await client.threads.get(thread_id)).metadata.noted, "here");
});

test("a run is cancelled, and a second one may be rejected", async () => {
  const { thread_id } = await client.threads.create();
  const run = await client.runs.create(thread_id, "waiting", { input: { text: "20" } });
  await assert.rejects(
    client.runs.create(thread_id, "plain", { input: {}, multitaskStrategy: "reject" }), /409/,
  );
  await client.runs.cancel(thread_id, run.run_id, true);
  assert.equal((await client.runs.get(thread_id, run.run_id)).status, "interrupted");
  await assert.rejects(client.runs.cancel(thread_id, run.run_id), /404/);
});

test("assistants have versions, schemas and graphs", async () => {
  const made = await client.assistants.create({ graphId: "plain", name: "mine", metadata: { of: "js" } });
  const changed = await client.assistants.update(made.assistant_id, { name: "changed" });
  assert.deepEqual([made.version, changed.version], [1, 2]);
  assert.equal((await client.assistants.getVersions(made.assistant_id)).length, 2);
  assert.equal((await client.assistants.setLatest(made.assistant_id, 1)).name, "mine");
  const found = await client.assistants.search({ graphId: "plain", metadata: { of: "js" } });
  assert.deepEqual(found.map((a) => a.assistant_id), [made.assistant_id]);
  assert.ok((await client.assistants.getGraph(made.assistant_id)).nodes.length >= 3);
  assert.equal((await client.assistants.getSchemas(made.assistant_id)).graph_id, "plain");
  await client.assistants.delete(made.assistant_id);
  await assert.rejects(client.assistants.get(made.assistant_id), /404/);
});

test("the store keeps items by namespace", async () => {
  const namespace = ["js", randomUUID()];
  await client.store.putItem(namespace, "a", { colour: "red" });
  await client.store.putItem(namespace, "b", { colour: "blue" });
  assert.equal((await client.store.getItem(namespace, "a")).value.colour, "red");
  const { items } = await client.store.searchItems(namespace, { filter: { colour: "blue" } });
  assert.deepEqual(items.map((item) => item.key), ["b"]);
  assert.deepEqual((await client.store.listNamespaces({ prefix: namespace })).namespaces, [namespace]);
  await client.store.deleteItem(namespace, "a");
  assert.equal(await client.store.getItem(namespace, "a"), null);
});

test("what is wrong is said with its status", async () => {
  await assert.rejects(client.threads.get("no-uuid"), /422/);
  await assert.rejects(client.threads.get(randomUUID()), /404/);
  await assert.rejects(client.runs.wait(null, "nobody", { input: {} }), /404/);
});

test("a run that is under way is told to who joins it late", async () => {
  const { thread_id } = await client.threads.create();
  const run = await client.runs.create(thread_id, "chat", { input: { messages: [] }, streamMode: ["messages-tuple"] });
  await until(async () => (await client.runs.get(thread_id, run.run_id)).status !== "pending");
  const parts = await collect(client.runs.joinStream(thread_id, run.run_id, { streamMode: "messages-tuple" }));
  assert.ok(parts.every((part) => part.event === "messages"));
});
