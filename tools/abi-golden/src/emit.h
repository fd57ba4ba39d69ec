/*
 * Prints what the C compiler makes of a header, as JSON:
 *   { "<header>": { "constants": {…}, "structs": { "<name>": { "size": n, "offsets": {…} } }, … } }
 * Each macro names the thing once; the value is always the compiler's.
 */
#include <stddef.h>
#include <stdio.h>

static const char *comma = "";
static const char *member = "";

static inline void open_section(const char *name)
{
    printf("%s\n  \"%s\": {", member, name);
    comma = "";
}

static inline void close_section(void)
{
    printf("\n  }");
    member = ",";
}

static inline void open_header(const char *name, const char *separator)
{
    printf("%s\n\"%s\": {", separator, name);
    member = "";
}

static inline void item(const char *name, long long value)
{
    printf("%s\n    \"%s\": %lld", comma, name, value);
    comma = ",";
}

#define HEADER_FIRST(name) open_header(name, "")
#define HEADER(name) open_header(name, ",")
#define END_HEADER() printf("\n}")

#define CONSTANTS() open_section("constants")
#define K(name) item(#name, (long long)(name))
/* A mask that C widens to unsigned long: only its low 32 bits are the register. */
#define K32(name) item(#name, (long long)(unsigned int)(name))
#define END_CONSTANTS() close_section()

#define STRUCTS() open_section("structs")
#define STRUCT(name, type)                                                                                             \
    do {                                                                                                               \
        printf("%s\n    \"%s\": { \"size\": %zu, \"offsets\": {", comma, name, sizeof(type));                          \
        comma = "";                                                                                                    \
    } while (0)
#define F(type, field)                                                                                                 \
    do {                                                                                                               \
        printf("%s \"%s\": %zu", comma, #field, offsetof(type, field));                                                \
        comma = ",";                                                                                                   \
    } while (0)
#define END_STRUCT()                                                                                                   \
    do {                                                                                                               \
        printf(" } }");                                                                                                \
        comma = ",";                                                                                                   \
    } while (0)
#define END_STRUCTS() close_section()
