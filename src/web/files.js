// Files that people have chosen, and that may be others by now.

export const CHANGED = 'This file was changed since it was chosen: choose it again';

/// Of the files of a form those that cannot be read any more, as what was chosen is a file's state: the field's name of each, and
/// its place among all.
export async function changed(form) {
  const files = [...form].filter(([, value]) => value instanceof File);
  const unread = await Promise.all(files.map(([, file]) => file.slice(0, 1).arrayBuffer().then(() => false, () => true)));
  return files.map(([name], place) => ({ name, place })).filter(({ place }) => unread[place]);
}
