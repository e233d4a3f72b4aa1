// SPDX-License-Identifier: GPL-3.0-or-later
// A batch of Understudy as a job of Flamenco 3: put this file into the manager's folder `scripts`.
// Every task runs the one command on a chunk of items; what is done already is skipped by it.

const JOB_TYPE = {
    label: "Understudy Batch",
    description: "Captures, heads, retargeting or frames: the items of a batch that are not done yet",
    settings: [
        { key: "manifest", type: "string", subtype: "file_path", required: true, description: "The batch" },
        { key: "items", type: "string", required: true, description: "Items, as in 1-40" },
        { key: "chunk_size", type: "int32", default: 10, propargs: { min: 1 }, description: "Items of one task" },
        { key: "python", type: "string", required: true, description: "Python of the inference environment" },
        { key: "launcher", type: "string", subtype: "file_path", required: true, description: "inference/launch.py" },
        { key: "blender", type: "string", required: false, default: "", description: "Blender, for batches of Blender" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    for (const items of frameChunker(settings.items, settings.chunk_size)) {
        const task = author.Task(`items-${items}`, settings.blender ? "blender" : "misc");
        task.addCommand(author.Command("exec", { exe: settings.python, args: wordsOf(settings, items) }));
        job.addTask(task);
    }
}

// Words of a command and never of a shell: a path may hold anything.
function wordsOf(settings, items) {
    const words = ["-E", "-s", "-X", "utf8", settings.launcher, "batch", "run", settings.manifest, "--items", items];
    words.push("--with-parent");
    return settings.blender ? words.concat(["--blender", settings.blender]) : words;
}
