// No generator of passwords, tokens and keys.
package register
