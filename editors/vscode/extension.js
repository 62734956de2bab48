// Starts `adapt lsp` for recipes. What a recipe means is the server's business; nothing of it is known here.

const { commands, languages, window, workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

/** Whether a KDL text is a recipe: the first line that is no comment begins with `adapt` and a version. */
function isRecipe(document) {
  const known = ["adapt", "kdl", "plaintext"].includes(document.languageId);
  if (!known || !document.fileName.endsWith(".kdl")) {
    return false;
  }
  let inside = false;
  for (let at = 0; at < Math.min(document.lineCount, 200); at++) {
    const line = document.lineAt(at).text.trim();
    if (inside || line.startsWith("/*")) {
      inside = !line.includes("*/");
    } else if (line !== "" && !line.startsWith("//")) {
      return /^adapt\s+\d/.test(line);
    }
  }
  return false;
}

/** Gives recipes their language, and starts the server with the first of them. */
async function look(document) {
  if (document.languageId !== "adapt" && isRecipe(document)) {
    // The text is then opened anew, as a recipe.
    await languages.setTextDocumentLanguage(document, "adapt");
  } else if (document.languageId === "adapt") {
    await start();
  }
}

async function start() {
  if (client) {
    return;
  }
  const path = workspace.getConfiguration("adapt").get("path");
  // Messages name files as seen from this folder.
  const folder = workspace.workspaceFolders?.find((folder) => folder.uri.scheme === "file");
  const server = { command: path, args: ["lsp"], options: { cwd: folder?.uri.fsPath } };
  const options = {
    documentSelector: [
      { language: "adapt", scheme: "file" },
      { language: "adapt", scheme: "untitled" },
    ],
  };
  client = new LanguageClient("adapt", "adapt", server, options);
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    const choice = await window.showErrorMessage(
      `\`${path} lsp\` could not be started: ${error.message ?? error}`,
      "Set the path",
    );
    if (choice) {
      await commands.executeCommand("workbench.action.openSettings", "adapt.path");
    }
  }
}

async function stop() {
  const running = client;
  client = undefined;
  await running?.stop();
}

async function activate(context) {
  context.subscriptions.push(
    workspace.onDidOpenTextDocument(look),
    workspace.onDidSaveTextDocument(look),
    commands.registerCommand("adapt.restart", async () => {
      await stop();
      await start();
    }),
  );
  for (const document of workspace.textDocuments) {
    await look(document);
  }
}

module.exports = { activate, deactivate: stop };
