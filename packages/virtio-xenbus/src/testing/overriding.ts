/** An object that is `target` but for some members; works for classes with private fields, unlike a copy. */
export function overriding<T extends object>(target: T, members: Partial<T>): T {
  return new Proxy(target, {
    get: (object, key) => {
      if (Object.hasOwn(members, key)) return Reflect.get(members, key) as unknown;
      const member: unknown = Reflect.get(object, key, object);
      return typeof member === 'function' ? (member.bind(object) as unknown) : member;
    },
  });
}
